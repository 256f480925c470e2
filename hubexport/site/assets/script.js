// Makes the pages handier. Without it, they can still be read and searched.
"use strict";

document.documentElement.classList.add("js");

function announce(text) {
  document.getElementById("announcement").textContent = text;
}

function button(text, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  return made;
}

// Copying: `data-copy` is the text to copy; if it is empty, the element's own text is copied.
let silencing;
async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https, browsers have only the older clipboard API.
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "quiet";
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    pressed.focus();
  }
  announce("Copied");
  pressed.textContent = "Copied";
  pressed.classList.add("done");
  setTimeout(() => {
    pressed.textContent = "Copy";
    pressed.classList.remove("done");
  }, 2000);
  clearTimeout(silencing); // Of an earlier copy, or it would silence this one.
  silencing = setTimeout(() => announce(""), 2000);
}

for (const element of document.querySelectorAll("[data-copy]")) {
  const isCode = element.matches("pre");
  const pressed = button("Copy", `Copy ${isCode ? element.dataset.what ?? "this program" : element.dataset.copy}`);
  pressed.className = "copy";
  pressed.addEventListener("click", () => copy(element.dataset.copy || element.textContent.trimEnd() + "\n", pressed));
  if (isCode) {
    const block = document.createElement("div");
    block.className = "block";
    element.replaceWith(block);
    block.append(pressed, element);
  } else {
    element.append(pressed);
  }
}

// Sorting: a click sorts a column by its `<data>` values or its text, and dissolves the groups. A second click reverses
// the order, a third brings back the groups.
const NONE = "–";

function order(row, column) {
  const cell = row.cells[column];
  const data = cell.querySelector("data");
  return data ? Number(data.value) : cell.textContent.trim();
}

function sorted(rows, column, descending) {
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  const keyed = rows.map((row) => [order(row, column), row]);
  const known = keyed.filter(([key]) => key !== NONE).sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
  return [...known, ...keyed.filter(([key]) => key === NONE)].map(([, row]) => row);
}

function moduleRows(table) {
  return [...table.querySelectorAll("tbody tr[data-handle]")];
}

function hideEmptyGroups(table) {
  for (const heading of table.querySelectorAll("tr.group")) {
    heading.hidden = !heading.parentElement.querySelector("tr[data-handle]:not([hidden])");
  }
}

function makeSortable() {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const groups = [...table.tBodies].map((body) => [body, [...body.rows]]);
    const rows = moduleRows(table);
    const all = document.createElement("tbody");
    const head = [...table.tHead.rows[0].cells];
    const sort = (column) => {
      const next = { ascending: "descending", descending: null }[head[column].getAttribute("aria-sort")];
      for (const cell of head) cell.removeAttribute("aria-sort");
      for (const body of [...table.tBodies]) body.remove();
      if (next === null) {
        for (const [body, own] of groups) body.append(...own);
        table.append(...groups.map(([body]) => body));
        hideEmptyGroups(table);
      } else {
        head[column].setAttribute("aria-sort", next ?? "ascending");
        all.append(...sorted(rows, column, next === "descending"));
        table.append(all);
      }
    };
    head.forEach((cell, column) => {
      const pressed = button(cell.textContent.trim());
      pressed.addEventListener("click", () => sort(column));
      cell.replaceChildren(pressed);
    });
  }
}

// Searching: in the table if it has all modules, otherwise on the server.
function wantedBy(form) {
  return Object.fromEntries(new FormData(form));
}

function queryOf(form) {
  const fields = Object.entries(wantedBy(form)).filter(([, value]) => value);
  const query = new URLSearchParams(fields).toString();
  return query && `?${query}`;
}

// What all ways of writing a name have in common: no capitals, no dots, and gaps between digits alone.
function squashed(text) {
  const apart = text.toLowerCase().replaceAll(".", "").replace(/[\s_/-]+/g, " ").trim();
  return apart.replace(/([^0-9]) /g, "$1").replace(/ ([^0-9])/g, "$1");
}

// The same rule as on the server: a single version must match the whole search.
function fits(row, wanted) {
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  const facts = row.dataset;
  const handle = squashed(facts.handle);
  const names = `${facts.handle}|${facts.network}|${facts.dataset}`;
  const others = `${squashed(names)}|${squashed(names.replace(/[\s_/-]v[0-9]+(?![0-9a-z])/g, ""))}`;
  return (
    ["family", "size", "kind", "values"].every((name) => !wanted[name] || wanted[name] === facts[name]) &&
    [...row.querySelectorAll("[data-version]")].some(({ dataset: one }) => {
      const text = `${handle}${one.version}|${others}`;
      return (
        ["version", "format"].every((name) => !wanted[name] || wanted[name] === one[name]) &&
        words.every((word) =>
          word.includes("/") ? `${facts.handle}/${one.version}`.includes(word) : text.includes(squashed(word)),
        )
      );
    })
  );
}

function filter(form, table) {
  const wanted = wantedBy(form);
  const rows = moduleRows(table);
  let found = 0;
  for (const row of rows) {
    row.hidden = !fits(row, wanted);
    found += !row.hidden;
  }
  hideEmptyGroups(table);
  document.getElementById("count").textContent = `${found} of ${rows.length} module${rows.length === 1 ? "" : "s"}`;
  document.getElementById("nothing").hidden = found > 0;
}

async function part(response, selector) {
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return page.querySelector(selector);
}

let asked = 0;
async function ask(form) {
  const number = ++asked;
  const results = await part(await fetch(form.getAttribute("action") + queryOf(form)), "#results");
  if (number === asked && results) {
    document.getElementById("results").replaceWith(results);
    makeSortable();
    announce(document.getElementById("count").textContent);
  }
}

function makeSearchable(form) {
  form.hidden = false;
  let waiting;
  const search = () => {
    const table = document.querySelector("#results table");
    history.replaceState(null, "", location.pathname + queryOf(form));
    clearTimeout(waiting);
    if ("complete" in table.dataset) filter(form, table);
    else waiting = setTimeout(() => ask(form).catch(() => form.submit()), 200);
  };
  form.addEventListener("input", search);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  document.addEventListener("click", (event) => {
    // On a page with some of the modules, the link leads to the page with all of them and the charts.
    if (!event.target.closest("[data-clear]") || !("complete" in document.querySelector("#results table").dataset)) return;
    event.preventDefault();
    for (const field of form.elements) if (field.name) field.value = "";
    search();
    form.elements.q.focus();
  });
  // On a static site, the page is the same for every query: only this script reads the search.
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  const table = document.querySelector("#results table");
  if (location.search && "complete" in table.dataset) filter(form, table);
}

// A reason that visitors are told why a photograph was not classified.
class Refusal extends Error {}

// Trying a module: `classify` gets a file, and a function that says how far it is; it returns the element to show below
// the form.
function makeTryable(form, classify) {
  const drop = form.querySelector(".drop");
  const field = form.elements.image;
  const show = (answer) => {
    document.getElementById("answer")?.remove();
    form.after(answer);
  };
  const say = (text, className) => {
    const said = document.createElement("p");
    said.id = "answer";
    said.className = className;
    said.textContent = text;
    show(said);
    announce(text);
  };
  const preview = (file) => {
    const picture = document.createElement("img");
    picture.alt = "Your photograph";
    picture.src = URL.createObjectURL(file);
    picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
    picture.addEventListener("error", () => picture.remove());
    drop.querySelector("img")?.remove();
    drop.prepend(picture);
  };
  let tried = 0;
  const attempt = async (file) => {
    const number = ++tried;
    const tell = (text) => number === tried && say(text, "answer remark");
    preview(file);
    tell("Classifying …");
    form.setAttribute("aria-busy", "true");
    let answer, refusal;
    try {
      answer = await classify(file, tell);
    } catch (error) {
      refusal = error instanceof Refusal ? error.message : `The photograph was not classified. ${error}`;
    }
    if (number !== tried) return;
    form.removeAttribute("aria-busy");
    if (answer) {
      show(answer);
      announce("");
      answer.focus();
    } else {
      say(refusal, "answer notice fail");
    }
  };
  field.addEventListener("change", () => {
    const [file] = field.files;
    field.value = ""; // So that the same file can be chosen again.
    if (file) attempt(file);
  });
  // Photographs may be dropped anywhere: outside the field, browsers would otherwise leave the page and open them.
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    attempt(file);
  });
}

// The server's response is a page with the classes.
async function askServer(form, file) {
  const body = new FormData();
  body.append("image", file);
  let answer;
  try {
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } });
    answer = await part(response, "#answer, main .lead");
  } catch {
    // The server did not answer.
  }
  if (answer?.id === "answer") return answer;
  throw new Refusal(answer?.textContent ?? "The server did not answer. Try again in a moment.");
}

// A folder opened as a file is a list of its files: its page is the index in it.
function linkToIndexes() {
  for (const link of document.querySelectorAll("a[href]")) {
    const address = new URL(link.getAttribute("href"), location.href);
    if (address.protocol !== "file:" || !address.pathname.endsWith("/")) continue;
    address.pathname += "index.html";
    link.setAttribute("href", address.href);
  }
}

if (location.protocol === "file:") linkToIndexes();
makeSortable();
const search = document.getElementById("search");
if (search) makeSearchable(search);
document.querySelectorAll("[data-try]").forEach((form) => makeTryable(form, (file) => askServer(form, file)));
