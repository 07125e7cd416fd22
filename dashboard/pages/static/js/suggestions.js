// What the query box may be completed with: a list below it, gone through with the arrows.
const pause = 130;

function attach(input) {
  const list = document.createElement("ul");
  list.className = "suggest";
  list.id = `${input.id}-list`;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  input.after(list);
  for (const [name, value] of [["role", "combobox"], ["aria-controls", list.id], ["aria-expanded", "false"], ["aria-autocomplete", "list"]]) {
    input.setAttribute(name, value);
  }
  let timer = 0;
  let asked = 0;

  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const chosen = () => list.querySelector("[aria-selected=true]");
  const choose = (item) => {
    for (const other of list.children) other.setAttribute("aria-selected", String(other === item));
    if (item) input.setAttribute("aria-activedescendant", item.id);
    else input.removeAttribute("aria-activedescendant");
  };
  const take = (item) => {
    input.value = item.dataset.value;
    input.focus();
    close();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const offer = (items) => {
    list.replaceChildren(...items.map(([value, words, note], index) => {
      const item = document.createElement("li");
      item.id = `${list.id}-${index}`;
      item.dataset.value = value;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      const small = document.createElement("small");
      small.textContent = note;
      item.append(words, small);
      return item;
    }));
    list.hidden = !items.length;
    input.setAttribute("aria-expanded", String(items.length > 0));
  };
  const ask = async () => {
    const mine = ++asked;
    const before = input.value.slice(0, input.selectionStart ?? input.value.length);
    const answer = await fetch(`${input.dataset.suggest}?q=${encodeURIComponent(before)}`, { headers: { Accept: "application/json" } });
    if (answer.ok && mine === asked && document.activeElement === input) offer(await answer.json());
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => ask().catch(close), pause);
  });
  input.addEventListener("focus", () => input.value || ask().catch(close));
  input.addEventListener("blur", () => setTimeout(close, 150));
  list.addEventListener("mousedown", (event) => {
    const item = event.target.closest("li");
    event.preventDefault();
    if (item) take(item);
  });
  input.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const items = [...list.children];
    const at = items.indexOf(chosen());
    if (event.key === "ArrowDown") choose(items[(at + 1) % items.length]);
    else if (event.key === "ArrowUp") choose(items[(at - 1 + items.length) % items.length]);
    else if ((event.key === "Enter" || event.key === "Tab") && chosen()) take(chosen());
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

export function start() {
  const all = () => {
    for (const input of document.querySelectorAll("input[data-suggest]:not([role])")) attach(input);
  };
  all();
  document.addEventListener("htmx:afterSettle", () => {
    all();
    document.dispatchEvent(new Event("hareline:refreshed"));
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });
}
