// Answers programs and people from a site that `hubexport site` has written, at a CDN's edge.
//
// For Cloudflare Pages copy it into the site as `_worker.js`. Elsewhere give it an `env` of its own:
//
//   env.ASSETS.fetch(request)  gets a file of the site, as the CDN itself would
//   env.BUCKET                 where the content of the site's folder `unpacked` is, like gs://models.example.org/hub;
//                              if not set, nowhere
//   env.ROOT                   the path of the site's --url, if it has one, like /models
//
// docs/hosting.md explains the protocol.

const INDEX_SECONDS = 60;
const CHANGING = "no-cache";
const UNCHANGING = "public, max-age=31536000, immutable";

let index = null; // What hub.json says,
let indexAge = 0; // and when it was read.

export default {
  async fetch(request, env) {
    if (request.method !== "GET" && request.method !== "HEAD") {
      return text(405, "Only GET and HEAD are possible.\n", { allow: "GET, HEAD" });
    }
    const address = new URL(request.url);
    const seen = rule(await readIndex(address, env), address);
    if (!seen) {
      return env.ASSETS.fetch(request);
    }
    if (seen.archive) {
      return archive(request, env, new URL(seen.archive, address));
    }
    if (seen.model) {
      return model(request, env, new URL(seen.model, address));
    }
    if (seen.newest) {
      return text(302, "", { location: seen.newest });
    }
    return seen.unpacked && env.BUCKET
      ? text(303, `${env.BUCKET}/${seen.unpacked}`, { location: `${env.BUCKET}/${seen.unpacked}` })
      : text(404, "This hub has no such module, or not in this format.\n");
  },
};

// Tells what an address means to programs: {archive}, {model}, {newest} or {unpacked} with a path, {} if it is nothing,
// or null if the CDN should answer.
export function rule(hub, address) {
  const root = new URL(hub.url).pathname.replace(/\/$/, "");
  const path = decoded(address.pathname).replace(/\/+$/, "");
  const wanted = address.searchParams.get("tf-hub-format");
  if (path !== root && !path.startsWith(`${root}/`)) {
    return null;
  }
  const handle = path.slice(root.length + 1);
  if (Object.hasOwn(hub.modules, handle)) {
    const form = address.searchParams.get("format") ?? "";
    const newest = hub.modules[handle].newest;
    return Object.hasOwn(newest, form) ? { newest: `${root}/${handle}/${newest[form]}${address.search}` } : {};
  }
  for (const [name, value] of [["tfjs-format", "file"], ["lite-format", "tflite"]]) {
    if (address.searchParams.get(name) !== value) {
      continue;
    }
    const asked = `${handle}?${name}=${value}`;
    return Object.hasOwn(hub.models ?? {}, asked) ? { model: `${root}/${hub.models[asked]}` } : {};
  }
  if (wanted !== "compressed" && wanted !== "uncompressed") {
    return null;
  }
  const [, name, version] = /^(.*)\/([^/]*)$/.exec(handle) ?? [];
  if (!Object.hasOwn(hub.modules, name) || !Object.hasOwn(hub.modules[name].versions, version)) {
    return handle.endsWith(".tar.gz") ? null : {};
  }
  return wanted === "compressed" ? { archive: `${root}/${hub.modules[name].versions[version].path}` } : { unpacked: handle };
}

// CDNs that see a .gz may say that its content is encoded: then clients would unpack it on the way, and have a tar.
async function archive(request, env, address) {
  const found = await env.ASSETS.fetch(new Request(address, { method: request.method, headers: request.headers }));
  if (!found.ok && found.status !== 304) {
    return found;
  }
  const headers = new Headers(found.headers);
  headers.delete("content-encoding");
  headers.set("content-type", "application/gzip");
  headers.set("cache-control", UNCHANGING);
  headers.set("x-content-type-options", "nosniff");
  return new Response(request.method === "HEAD" ? null : found.body, { status: found.status, headers });
}

// Pages of other sites may load models.
async function model(request, env, address) {
  const found = await env.ASSETS.fetch(new Request(address, { method: request.method, headers: request.headers }));
  if (!found.ok && found.status !== 304) {
    return found;
  }
  const headers = new Headers(found.headers);
  headers.set("access-control-allow-origin", "*");
  headers.set("cache-control", UNCHANGING);
  headers.set("content-type", address.pathname.endsWith(".json") ? "application/json" : "application/octet-stream");
  headers.set("x-content-type-options", "nosniff");
  return new Response(request.method === "HEAD" ? null : found.body, { status: found.status, headers });
}

async function readIndex(address, env) {
  if (index === null || Date.now() - indexAge > INDEX_SECONDS * 1000) {
    const found = await env.ASSETS.fetch(new Request(new URL(`${env.ROOT ?? ""}/hub.json`, address)));
    if (!found.ok) {
      throw new Error(`hub.json: ${found.status}`);
    }
    index = await found.json();
    indexAge = Date.now();
  }
  return index;
}

function text(status, body, headers = {}) {
  const security = { "cache-control": CHANGING, "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" };
  return new Response(body, { status, headers: { ...security, ...headers } });
}

function decoded(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // Of no module: a handle needs no percent signs.
  }
}
