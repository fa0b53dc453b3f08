// A click on a column's head sorts its table: numbers high to low first, words from A; a second click turns it round.
for (const button of document.querySelectorAll("th button:not([data-key])")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const descending = before ? before !== "descending" : numeric;
    const value = (row) => row.children[column].dataset.v ?? row.children[column].textContent;
    const compare = (a, b) => (numeric ? value(a) - value(b) : value(a).localeCompare(value(b)));
    const rows = [...table.tBodies[0].rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
    table.tBodies[0].append(...rows);
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  });
}
