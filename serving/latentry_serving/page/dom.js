// The document, changed only where something changed: selection, focus and screen readers stay where they are.
// Whatever comes from a server is put in as text.

export function $(id) {
  return document.getElementById(id);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// tone: ok, warn, bad or idle. The word says it; the colour only repeats it.
export function setPill(element, text, tone) {
  setText(element, text);
  const name = `pill ${tone}`;
  if (element.className !== name) element.className = name;
}

// A cell is text or { text, pill, bar, href, current, wrap }; pill is a tone, bar a share of 1.
function fill(cell, content) {
  const value = typeof content === "object" ? content : { text: content };
  const signature = JSON.stringify(value);
  if (cell.signature === signature) return;
  cell.signature = signature;
  cell.classList.toggle("wrap", Boolean(value.wrap));
  if (value.href) {
    const link = cell.querySelector("a") ?? make("a");
    link.href = value.href;
    if (value.current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    setText(link, value.text);
    if (!link.parentNode) cell.replaceChildren(link);
  } else if (value.pill) {
    cell.replaceChildren(make("span", { className: `pill ${value.pill}` }, value.text));
  } else if (value.bar != null) {
    const bar = make("span", { className: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.max(0, Math.min(1, value.bar)) * 100}%`;
    cell.replaceChildren(make("span", { className: "track" }, bar), make("span", {}, value.text));
    cell.classList.add("barred");
  } else {
    cell.textContent = value.text;
  }
}

// rows: { key, cells, tone }, the first cell is the row's heading. Columns with numbers are marked in the table's head.
export function setRows(table, rows, empty = "") {
  const body = table.tBodies[0];
  const columns = [...table.tHead.rows[0].cells];
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = rows.length || !empty ? rows : [{ key: "", cells: [empty] }];
  wanted.forEach((row, index) => {
    const found = old.get(row.key) ?? make("tr");
    old.delete(row.key);
    found.dataset.key = row.key;
    found.className = row.tone ?? "";
    row.cells.forEach((content, column) => {
      let cell = found.cells[column];
      if (!cell) {
        cell = rows.length && column === 0 ? make("th", { scope: "row" }) : make("td");
        if (!rows.length) cell.colSpan = columns.length;
        else if (columns[column]?.classList.contains("num")) cell.className = "num";
        found.append(cell);
      }
      fill(cell, content);
    });
    if (body.rows[index] !== found) body.insertBefore(found, body.rows[index] ?? null);
  });
  for (const row of old.values()) row.remove();
}

// items: [term, content]; the content is text or { text, pill, mono }.
export function setTerms(list, items) {
  const signature = JSON.stringify(items);
  if (list.signature === signature) return;
  list.signature = signature;
  list.replaceChildren(
    ...items.map(([term, content]) => {
      const value = typeof content === "object" ? content : { text: content };
      const told = make("dd");
      if (value.pill) told.append(make("span", { className: `pill ${value.pill}` }, value.text));
      else told.append(value.text);
      if (value.mono) told.className = "mono";
      return make("div", {}, make("dt", {}, term), told);
    }),
  );
}

// Options of a select: [value, text]. What was chosen stays chosen while it is there.
export function setOptions(select, options) {
  const signature = JSON.stringify(options);
  if (select.signature === signature) return;
  select.signature = signature;
  const chosen = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === chosen)) select.value = chosen;
}
