// Ticked rows: shift ticks a range, the heading's box ticks all that is shown, the bar says how many.
let last = null;

const boxes = () => [...document.querySelectorAll("input[data-tick]")];
export const ticked = () => boxes().filter((box) => box.checked);

export function untick() {
  for (const box of ticked()) box.checked = false;
  tell();
}

export function tell() {
  const all = boxes();
  const count = ticked().length;
  for (const box of all) box.closest("tr").toggleAttribute("data-on", box.checked);
  const head = document.querySelector("input[data-tick-all]");
  if (head) {
    head.checked = count > 0 && count === all.length;
    head.indeterminate = count > 0 && count < all.length;
  }
  for (const word of document.querySelectorAll("[data-ticked]")) word.textContent = count === 1 ? "1 job" : `${count} jobs`;
}

export function start() {
  document.addEventListener("click", (event) => {
    const box = event.target.closest("input[data-tick]");
    if (!box) return;
    const all = boxes();
    if (event.shiftKey && last && last.isConnected) {
      const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((one, other) => one - other);
      for (const between of all.slice(from, to + 1)) between.checked = box.checked;
    }
    last = box;
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[data-tick-all]")) {
      for (const box of boxes()) box.checked = event.target.checked;
    }
    if (event.target.matches("input[data-tick], input[data-tick-all]")) tell();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-untick]")) untick();
  });
  document.addEventListener("hareline:refreshed", tell);
  tell();
}
