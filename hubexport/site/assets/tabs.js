// Shows parts of a page as tabs, one at a time. Without it, they stand one below another.
"use strict";

// `data-tabs` is what the tabs are called; each child with an id and a heading is a part. An address may name one.
function makeTabs(box) {
  const panels = [...box.children];
  const list = document.createElement("div");
  list.className = "tablist";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", box.dataset.tabs);
  const tabs = panels.map((panel) => {
    const heading = panel.querySelector("h3");
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `${panel.id}-tab`;
    tab.textContent = heading.textContent;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    heading.hidden = true;
    return tab;
  });
  const show = (index) => {
    tabs.forEach((tab, number) => {
      tab.setAttribute("aria-selected", String(number === index));
      tab.tabIndex = number === index ? 0 : -1;
      panels[number].hidden = number !== index;
    });
  };
  const choose = (index) => {
    show(index);
    tabs[index].focus();
    history.replaceState(null, "", `#${panels[index].id}`);
  };
  tabs.forEach((tab, index) => tab.addEventListener("click", () => choose(index)));
  list.addEventListener("keydown", (event) => {
    const index = tabs.indexOf(event.target);
    const next = {
      ArrowRight: (index + 1) % tabs.length,
      ArrowLeft: (index + tabs.length - 1) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(next);
  });
  const followAddress = () => {
    const index = panels.findIndex((panel) => `#${panel.id}` === location.hash);
    if (index < 0) return;
    show(index);
    box.scrollIntoView();
  };
  list.append(...tabs);
  box.prepend(list);
  show(0);
  followAddress();
  window.addEventListener("hashchange", followAddress);
}

document.querySelectorAll("[data-tabs]").forEach(makeTabs);
