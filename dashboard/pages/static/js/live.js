// The page stays true: an event nudges, the page is fetched again as it is, and what changed is morphed in.
// It waits while the reader is busy: rows ticked, a dialog or a traceback open, the tab hidden, or turned off.
/* global Idiomorph */
import { open } from "./dialogs.js";
import { listen, stop } from "./stream.js";
import { ticked } from "./ticks.js";
import { now, since, synchronise } from "./times.js";

const settle = 250;
const say_every = 30000;
const longest = 30000;

let nudged = false;
let timer = 0;
let busy = false;
let lost = false;
let held = null;
let fresh = 0;
let tried = 0;
let failures = 0;
let said = 0;

const interval = () => Number(document.body.dataset.interval) * 1000;
const regions = (root) => [...root.querySelectorAll("[data-region]")];

function why_not() {
  if (!interval()) return "off";
  if (document.hidden) return "hidden";
  if (open()) return "a dialog is open";
  if (ticked().length) return "jobs are ticked";
  if (document.querySelector("[data-hold][open], [data-menu][open]")) return "something is unfolded";
  return "";
}

function tell() {
  const badge = document.querySelector("[data-live]");
  const words = badge?.querySelector(".words");
  if (!words) return;
  const reason = why_not();
  const state = lost || failures ? "lost" : reason === "off" ? "off" : reason ? "paused" : "on";
  badge.dataset.state = state;
  const age = since(Math.min(fresh, now()));
  const text = state === "lost"
    ? `${lost ? "disconnected" : "no answer"} · updated ${age}`
    : state === "paused"
      ? `paused: ${reason}`
      : state === "off"
        ? `refresh is off · ${age}`
        : `updated ${age}`;
  if (words.textContent !== text) words.textContent = text;
}

function announce(text) {
  if (Date.now() - said < say_every) return;
  said = Date.now();
  const status = document.querySelector("[data-say]");
  if (status) status.textContent = text;
}

const keep = {
  beforeAttributeUpdated: (name, node) => {
    if (name === "open" && (node.matches("details") || node.matches("dialog"))) return false;
    if (name === "checked" || name === "data-at" || name === "data-on") return false;
    return true;
  },
  beforeNodeMorphed: (old) => !(old.nodeType === 1 && (old.matches("[data-chart], [data-still]") || old === document.activeElement && old.matches("input, textarea, select"))),
};

const morph = (from, to) => Idiomorph.morph(from, to, { morphStyle: "outerHTML", callbacks: keep });

const names = (root) => [...root.querySelectorAll("tr[data-row]")].map((row) => row.id);

// New rows push others from under the pointer: while the reader is at the table they wait behind a button.
function apply(page) {
  const coming = new Map(regions(page).map((region) => [region.dataset.region, region]));
  for (const region of regions(document)) {
    const next = coming.get(region.dataset.region);
    if (!next) continue;
    const known = new Set(names(region));
    const news = names(next).filter((name) => !known.has(name));
    const reading = region.matches(":hover") || region.contains(document.activeElement) || scrollY > 120;
    if (region.hasAttribute("data-orderly") && known.size && news.length && reading) {
      for (const row of region.querySelectorAll("tr[data-row]")) {
        const same = next.querySelector(`#${CSS.escape(row.id)}`);
        if (same) morph(row, same.cloneNode(true));
        else {
          row.dataset.stale = "";
          row.title = "No longer on this page: it may be in another state by now";
        }
      }
      pill(news.length, page);
    } else {
      morph(region, next);
      if (region.hasAttribute("data-orderly")) pill(0, null);
    }
  }
  synchronise(page.body);
  fresh = now();
  for (const other of document.querySelectorAll("[data-counts]")) window.htmx?.trigger(other, "refresh");
  document.dispatchEvent(new Event("hareline:refreshed"));
  announce("Updated");
}

function pill(count, page) {
  const holder = document.querySelector("[data-news]");
  if (!holder) return;
  held = page;
  holder.hidden = !count;
  holder.firstElementChild.textContent = `${count} new ${count === 1 ? "job" : "jobs"} – show`;
}

async function refresh() {
  busy = true;
  nudged = false;
  tried = now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html", "X-Hareline-Refresh": "1" } });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    // What is shown is older than what cannot be shown now, and says so; it is better than nothing.
    const useful = answer.ok && (!page.querySelector("[data-trouble]") || document.querySelector("[data-trouble]"));
    failures = useful ? 0 : failures + 1;
    if (useful && !why_not()) apply(page);
    else nudged = true;
  } catch {
    failures++;
    nudged = true;
  } finally {
    busy = false;
    tell();
  }
}

function consider() {
  tell();
  if (timer || busy || !nudged || why_not()) return;
  const pause = Math.min(longest, interval() * 2 ** Math.min(failures, 5)); // whoever is in trouble is asked less
  const wait = Math.max(settle, Math.max(fresh, tried) + Math.max(pause, interval()) - now());
  timer = setTimeout(() => {
    timer = 0;
    if (!why_not()) refresh().then(consider);
  }, wait);
}

function nudge() {
  nudged = true;
  consider();
}

function hear(news) {
  if (news.topic) {
    if (document.body.dataset.topics.split(",").includes(news.topic)) nudge();
    return;
  }
  const was = lost;
  lost = news.state === "lost";
  if (was && !lost) nudge();
  tell();
}

function connect() {
  if (!document.hidden && interval()) listen(document.body.dataset.root, hear);
}

export function start() {
  fresh = now();
  if (!document.body.dataset.topics) return;
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else {
      connect();
      nudge();
    }
  });
  document.addEventListener("hareline:interval", () => {
    stop();
    connect();
    nudge();
  });
  for (const event of ["change", "toggle", "hareline:resume"]) document.addEventListener(event, consider, true);
  // On the document: the button goes with the page's middle when that is swapped.
  document.addEventListener("click", (event) => {
    if (!held || !event.target.closest("[data-news]")) return;
    const page = held;
    scrollTo({ top: 0 });
    document.activeElement?.blur();
    for (const region of regions(page)) {
      const here = document.querySelector(`[data-region="${CSS.escape(region.dataset.region)}"]`);
      if (here) morph(here, region);
    }
    pill(0, null);
  });
  addEventListener("pagehide", stop);
  setInterval(() => {
    tell();
    // Where nothing nudges for long, look all the same: some figures change without an event.
    if (now() - fresh > Math.max(interval(), 15000)) nudge();
    else consider();
  }, 1000);
  connect();
}
