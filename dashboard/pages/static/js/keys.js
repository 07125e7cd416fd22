// The keyboard.  Nothing here acts while somebody types, or while a dialog is open.
import { open } from "./dialogs.js";
import { ticked, untick } from "./ticks.js";

let going = 0;

const rows = () => [...document.querySelectorAll("tr[data-row]")];
const current = () => document.querySelector("tr[data-at]");

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? (step > 0 ? 0 : all.length - 1) : at + step))];
  for (const row of all) row.toggleAttribute("data-at", row === next);
  const link = next.querySelector("a.name, a");
  if (link) link.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

const acts = {
  "/": () => document.getElementById("find")?.select() ?? document.getElementById("find")?.focus(),
  "?": () => document.querySelector("[data-help]").showModal(),
  j: () => move(1),
  k: () => move(-1),
  x: () => current()?.querySelector("input[data-tick]")?.click(),
  g: () => (going = Date.now()),
  Enter: (event) => {
    if (event.target.closest("a, button, summary, input")) return false;
    const link = current()?.querySelector("a.name, a");
    if (!link) return false;
    link.click();
  },
  Escape: () => {
    if (!ticked().length) {
      current()?.removeAttribute("data-at");
      return false;
    }
    untick();
  },
};

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (open()) return;
    if (Date.now() - going < 1500) {
      going = 0;
      const link = document.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        link.click();
        return;
      }
    }
    const act = Object.hasOwn(acts, event.key) ? acts[event.key] : null;
    if (act && act(event) !== false) event.preventDefault();
  });
}
