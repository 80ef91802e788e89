"use strict";
// Filters, search and sorting of a page's clips. Without this script the page shows all clips.
{
  const form = document.querySelector(".filters");
  const list = document.querySelector(".cards-of-clips");
  const none = document.querySelector(".none");
  const cards = [...list.children].map((node, place) => ({
    node, place,
    name: node.querySelector("h3").textContent.toLowerCase(),
    certainty: Number(node.dataset.certainty),
    right: node.dataset.right === "1",
  }));
  const selects = [...form.querySelectorAll("select")].filter((select) => !["sort", "print"].includes(select.name));
  const fields = [...selects, form.elements.search, form.elements.sort];
  const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });
  const orders = {
    "": (a, b) => a.place - b.place,
    least: (a, b) => a.certainty - b.certainty || a.place - b.place,
    mistakes: (a, b) => a.right - b.right || (a.right ? a.certainty - b.certainty : b.certainty - a.certainty) || a.place - b.place,
    name: byName,
  };
  let order = "";

  function apply() {
    const search = form.elements.search.value.trim().toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const fits = card.name.includes(search)
        && selects.every((select) => select.value === "" || card.node.dataset[select.name] === select.value);
      card.node.hidden = !fits;
      shown += fits;
    }
    if (form.elements.sort.value !== order) {
      order = form.elements.sort.value;
      list.append(...[...cards].sort(orders[order]).map((card) => card.node));
    }
    form.querySelector(".count").textContent = `${shown} of ${cards.length} ${list.dataset.unit ?? (cards.length === 1 ? "clip" : "clips")}`;
    none.hidden = shown > 0;
    for (const link of document.querySelectorAll(".confusion a")) {
      const chosen = ["truth", "said"].every((name) => form.elements[name].value === link.dataset[name]);
      link.parentElement.toggleAttribute("aria-current", chosen);
    }
  }

  // The filters are part of the address, so that a view can be bookmarked and the back button returns to the last one.
  function address() {
    const chosen = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
    return `#clips${chosen.size ? `?${chosen}` : ""}`;
  }
  function restore() {
    const asked = new URLSearchParams(location.hash.split("?")[1] ?? "");
    for (const field of fields) field.value = asked.get(field.name) ?? "";
    for (const select of fields) if (select.selectedIndex === -1) select.value = "";
    apply();
  }
  function showClips() {
    const heading = document.querySelector("#clips h2");
    heading.scrollIntoView();
    heading.focus({ preventScroll: true });
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  const changed = () => { apply(); history.replaceState(null, "", address()); };
  form.addEventListener("input", changed);
  form.addEventListener("change", changed);
  const clear = () => { for (const field of fields) field.value = ""; };
  form.addEventListener("reset", (event) => { event.preventDefault(); clear(); changed(); });
  for (const link of document.querySelectorAll(".confusion a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      clear();
      for (const name of ["truth", "said"]) form.elements[name].value = link.dataset[name];
      apply();
      history.pushState(null, "", address());
      showClips();
    });
  }
  addEventListener("popstate", restore);
  restore();
  if (location.hash.startsWith("#clips?")) showClips();
}
