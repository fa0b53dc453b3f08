// The list of videos: only the rows of one page are elements.
const ROWS_OF_PAGE = 25;
for (const holder of document.querySelectorAll(".video-list")) {
  const videos = unpackedVideos(holder);
  const [links, splits] = [videos.links, videos.splits].map((texts) => (texts ? unpackedTexts(texts) : []));
  const [search, choice, table, earlier, later, count] = ["input", "select", "table", ".earlier", ".later", "output"].map((name) => holder.querySelector(name));
  const inOrder = (names) => {
    const sorted = names.map((_, i) => i).sort((a, b) => names[a].localeCompare(names[b]));
    const ranks = new Uint32Array(names.length);
    sorted.forEach((number, rank) => (ranks[number] = rank));
    return ranks;
  };
  const labelRanks = inOrder(videos.labelNames);
  const classRanks = inOrder(["", ...videos.classes]);
  const splitRanks = inOrder(splits);
  // What each column is sorted by: the videos come in the order of their ids.
  const keys = {
    video: (i) => i,
    split: (i) => splitRanks[i],
    class: (i) => labelRanks[videos.labels[i]],
    prediction: (i) => classRanks[videos.predicted[i]],
    score: (i) => (videos.predicted[i] ? videos.scores[i] : -1),
    answer: (i) => videos.states[i],
  };
  const folded = videos.ids.map((id) => id.toLowerCase());
  const foldedLabels = videos.labelNames.map((name) => name.toLowerCase());
  const foldedClasses = ["", ...videos.classes.map((name) => name.toLowerCase())];
  let rows = videos.ids.map((_, i) => i);
  let sorting = { key: keys.video, descending: false };
  let page = 0;

  function select() {
    const words = search.value.toLowerCase();
    const state = Number(choice.value);
    rows = [];
    for (let i = 0; i < videos.ids.length; i++) {
      const hasState = !state || videos.states[i] === state;
      const hasWords =
        !words || folded[i].includes(words) || foldedLabels[videos.labels[i]].includes(words) || foldedClasses[videos.predicted[i]].includes(words);
      if (hasState && hasWords) rows.push(i);
    }
    const { key, descending } = sorting;
    rows.sort((a, b) => (descending ? key(b) - key(a) : key(a) - key(b)) || a - b);
    page = 0;
    show();
  }
  function cell(row, name, text, style) {
    const element = document.createElement(name);
    element.textContent = text;
    if (style) element.className = style;
    row.append(element);
    return element;
  }
  function linkTo(address, text) {
    const link = document.createElement("a");
    link.textContent = text;
    link.href = address;
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    return link;
  }
  function show() {
    const first = page * ROWS_OF_PAGE;
    const shown = rows.slice(first, first + ROWS_OF_PAGE);
    table.tBodies[0].replaceChildren(
      ...shown.map((i) => {
        const row = document.createElement("tr");
        const name = cell(row, "th", links[i] ? "" : videos.ids[i]);
        name.scope = "row";
        if (links[i]) name.append(linkTo(links[i], videos.ids[i]));
        cell(row, "td", STATES[videos.states[i]], videos.states[i] === 2 ? "wrong" : "");
        cell(row, "td", scoreOf(videos, i), "n");
        cell(row, "td", labelOf(videos, i));
        cell(row, "td", predictionOf(videos, i));
        if (splits.length) cell(row, "td", splits[i]);
        return row;
      }),
    );
    const last = first + shown.length;
    count.textContent = rows.length ? `${(first + 1).toLocaleString("en")}–${last.toLocaleString("en")} of ${rows.length.toLocaleString("en")} videos` : "no video";
    earlier.disabled = page === 0;
    later.disabled = last >= rows.length;
  }
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const before = head.getAttribute("aria-sort");
      const descending = before ? before !== "descending" : head.classList.contains("n");
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sorting = { key: keys[button.dataset.key], descending };
      select();
    });
  }
  earlier.addEventListener("click", () => (page--, show()));
  later.addEventListener("click", () => (page++, show()));
  search.addEventListener("input", select);
  choice.addEventListener("change", select);
  show();
}
