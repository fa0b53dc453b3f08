// The map: points on a canvas, found by a grid, because a page cannot have 100,000 elements.
const CELLS = 128; // of the grid in each direction
const MAP_STEPS = 65536; // of the coordinates
const REACH_PX = 14; // from the pointer to a point
const ROW_NAMES = { label: "Class", prediction: "Prediction", score: "Score", answer: "Answer", part: "Part" };

// A mark of radius r around (0, 0), so that no category is distinguished only by its colour.
function drawMark(context, mark, r) {
  context.beginPath();
  if (mark === 0) context.arc(0, 0, r, 0, 7);
  if (mark === 1) context.rect(-0.85 * r, -0.85 * r, 1.7 * r, 1.7 * r);
  if (mark === 2) (context.moveTo(0, -1.15 * r), context.lineTo(1.1 * r, 0.8 * r), context.lineTo(-1.1 * r, 0.8 * r), context.closePath());
  if (mark === 3) (context.moveTo(0, -1.25 * r), context.lineTo(1.1 * r, 0), context.lineTo(0, 1.25 * r), context.lineTo(-1.1 * r, 0), context.closePath());
  if (mark < 4) return context.fill();
  const [a, b] = mark === 4 ? [1.2 * r, 0] : [0.9 * r, 0.9 * r]; // + and x
  (context.moveTo(-a, -b), context.lineTo(a, b), context.moveTo(-b, a), context.lineTo(b, -a), context.stroke());
}
// An image of a mark.
function markImage(category, r, zoom, style) {
  const image = document.createElement("canvas");
  image.width = image.height = Math.ceil((2.6 * r + 2) * zoom);
  const context = image.getContext("2d");
  context.translate(image.width / 2, image.height / 2);
  context.scale(zoom, zoom);
  context.fillStyle = context.strokeStyle = style.getPropertyValue(category.colour);
  context.globalAlpha = category.alpha;
  context.lineWidth = Math.max(1.2, 0.55 * r);
  drawMark(context, category.mark, r);
  return image;
}

function startMap(holder) {
  const videos = unpackedVideos(holder);
  const [xs, ys, framed] = ["x", "y", "framed"].map((name) => unpackedNumbers(videos[name]));
  const count = xs.length;
  const frameOf = new Map(Array.from(framed, (video, number) => [video, videos.frames[number]]));
  const [board, ring, choice, legend, card] = [".board canvas", ".ring", "select", ".legend", ".card"].map((name) => holder.querySelector(name));
  const [wider, closer, whole] = holder.querySelectorAll("[data-zoom]");
  const colourings = {};
  for (const [name, { names, colours, shapes, numbers }] of Object.entries(videos.colourings)) {
    const categories = names.map((title, i) => ({
      name: title,
      colour: colours[i] < 0 ? "--quiet" : `--c${colours[i]}`,
      alpha: colours[i] < 0 ? 0.3 : 0.85,
      mark: shapes[i],
    }));
    colourings[name] = { of: unpackedNumbers(numbers), categories };
  }
  let coloured = colourings[choice.value];
  let only = -1; // the category that is shown alone
  let chosen = -1; // the point whose video is shown
  let zoom = 1;
  let centre = [0, 0]; // in steps, as are all coordinates that are not called _px
  const high = [Math.max(1, xs.reduce((a, b) => Math.max(a, b), 0)), Math.max(1, ys.reduce((a, b) => Math.max(a, b), 0))];

  // The points of each cell of the grid, one cell after another.
  const cellOf = (i) => (xs[i] >> 9) + CELLS * (ys[i] >> 9);
  const starts = new Uint32Array(CELLS * CELLS + 1);
  for (let i = 0; i < count; i++) starts[cellOf(i) + 1]++;
  for (let cell = 0; cell < CELLS * CELLS; cell++) starts[cell + 1] += starts[cell];
  const ofCells = new Uint32Array(count);
  const filled = starts.slice();
  for (let i = 0; i < count; i++) ofCells[filled[cellOf(i)]++] = i;

  const isShown = (i) => only < 0 || coloured.of[i] === only;
  const size_px = () => [board.clientWidth, board.clientHeight];
  const scale = () => {
    const [width, height] = size_px();
    return zoom * Math.min((width - 24) / high[0], (height - 24) / high[1]);
  };
  // Radius of the marks: smaller if there is less room for each.
  const radius_px = () => {
    const [width, height] = size_px();
    return Math.min(4, Math.max(1.6, 0.18 * Math.sqrt((zoom * width * height) / count)));
  };
  function place_px(i) {
    const [width, height] = size_px();
    return [width / 2 + (xs[i] - centre[0]) * scale(), height / 2 - (ys[i] - centre[1]) * scale()];
  }
  // The points are written to the pixels directly: drawing an image for each takes 20 times as long.
  function draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = size_px().map((side) => Math.round(side * ratio));
    if (!width || !height) return;
    [board.width, board.height] = [width, height];
    const context = board.getContext("2d");
    const style = getComputedStyle(holder);
    context.fillStyle = style.getPropertyValue("--paper");
    context.fillRect(0, 0, width, height);
    const drawn = context.getImageData(0, 0, width, height);
    const marks = marksOf(coloured.categories, ratio, style);
    const factor = scale() * ratio;
    const [left, top] = [width / 2 - centre[0] * factor, height / 2 + centre[1] * factor];
    const all = [...coloured.categories.keys()];
    // One after the other, so that the answers that were wrong are on top; classes are mixed.
    const layers = coloured === colourings.answer ? all.map((number) => [number]) : [all];
    if (only >= 0) layers.splice(0, layers.length, all.filter((number) => number !== only), [only]);
    for (const layer of layers) {
      const strength = only >= 0 && layer[0] !== only ? 0.08 : 1;
      const isInLayer = all.map((number) => layer.includes(number));
      for (let i = 0; i < count; i++) {
        const number = coloured.of[i];
        if (!isInLayer[number]) continue;
        const mark = marks[number];
        const x = Math.round(left + xs[i] * factor - mark.side / 2);
        const y = Math.round(top - ys[i] * factor - mark.side / 2);
        if (x >= 0 && y >= 0 && x + mark.side <= width && y + mark.side <= height) blend(drawn, mark, x, y, strength);
      }
    }
    context.putImageData(drawn, 0, 0);
    placeRing();
  }
  // The pixels of each category's mark. Categories with the same mark share them.
  function marksOf(categories, ratio, style) {
    const known = new Map();
    return categories.map((category) => {
      const key = `${category.colour} ${category.mark}`;
      if (!known.has(key)) {
        const image = markImage(category, radius_px(), ratio, style);
        known.set(key, { side: image.width, data: image.getContext("2d").getImageData(0, 0, image.width, image.width).data });
      }
      return known.get(key);
    });
  }
  function blend(drawn, mark, x, y, strength) {
    for (let row = 0, from = 0; row < mark.side; row++) {
      let to = 4 * (drawn.width * (y + row) + x);
      for (let column = 0; column < mark.side; column++, from += 4, to += 4) {
        const alpha = mark.data[from + 3];
        if (!alpha) continue;
        const share = (alpha / 255) * strength;
        for (let channel = 0; channel < 3; channel++) drawn.data[to + channel] += (mark.data[from + channel] - drawn.data[to + channel]) * share;
      }
    }
  }
  // An element, which is drawn faster than a second canvas.
  function placeRing() {
    ring.hidden = chosen < 0;
    if (chosen < 0) return;
    const [x, y] = place_px(chosen);
    const [width, height] = size_px();
    const r = radius_px() + 5;
    ring.hidden = x < 0 || y < 0 || x > width || y > height;
    ring.style.width = ring.style.height = `${2 * r}px`;
    ring.style.transform = `translate(${x - r}px, ${y - r}px)`;
  }

  // The point nearest to a place of the canvas, or -1 if none is within reach.
  function nearest(x_px, y_px) {
    const [width, height] = size_px();
    const reach = REACH_PX / scale();
    const x = centre[0] + (x_px - width / 2) / scale();
    const y = centre[1] - (y_px - height / 2) / scale();
    const cells = (from, to) => [Math.max(0, Math.floor(from / 512)), Math.min(CELLS - 1, Math.floor(to / 512))];
    const [firstX, lastX] = cells(x - reach, x + reach);
    const [firstY, lastY] = cells(y - reach, y + reach);
    let best = -1;
    let least = reach * reach;
    for (let row = firstY; row <= lastY; row++) {
      for (let at = starts[row * CELLS + firstX]; at < starts[row * CELLS + lastX + 1]; at++) {
        const i = ofCells[at];
        const distance = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
        if (distance <= least && isShown(i)) [best, least] = [i, distance];
      }
    }
    return best;
  }
  // The nearest point in a direction (1, 0), (-1, 0), (0, 1) or (0, -1), or the same point.
  function neighbour([dx, dy]) {
    let best = chosen;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      const along = (xs[i] - xs[chosen]) * dx + (ys[i] - ys[chosen]) * dy;
      const across = Math.abs((xs[i] - xs[chosen]) * dy) + Math.abs((ys[i] - ys[chosen]) * dx);
      if (along <= 0 || across > along || !isShown(i)) continue;
      const distance = along + 2 * across;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  const image = card.querySelector("img");
  const id = card.querySelector(".id");
  const facts = card.querySelector("dl");
  const hint = card.querySelector(".hint");
  function choose(i) {
    if (i === chosen) return;
    chosen = i;
    placeRing();
    hint.hidden = i >= 0;
    const frame = frameOf.get(i);
    image.hidden = !frame;
    if (frame) (image.src = `data:image/jpeg;base64,${frame}`), (image.alt = `a frame of ${videos.ids[i]}`);
    id.textContent = i < 0 ? "" : videos.ids[i];
    facts.replaceChildren();
    if (i < 0) return;
    const values = {
      label: labelOf(videos, i),
      prediction: predictionOf(videos, i),
      score: scoreOf(videos, i),
      answer: colourings.answer.categories[videos.states[i]].name,
      part: colourings.part.categories[colourings.part.of[i]].name,
    };
    if (!videos.predicted[i]) (delete values.prediction, delete values.score);
    for (const [key, value] of Object.entries(values)) {
      const [name, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
      [name.textContent, text.textContent] = [ROW_NAMES[key], value];
      facts.append(name, text);
    }
  }

  function showLegend() {
    const counts = new Uint32Array(coloured.categories.length);
    for (let i = 0; i < count; i++) counts[coloured.of[i]]++;
    const style = getComputedStyle(holder);
    legend.replaceChildren();
    coloured.categories.forEach((category, number) => {
      if (!counts[number]) return;
      const button = document.createElement("button");
      button.setAttribute("aria-pressed", String(number === only));
      // an image, because the browser composes each canvas again in every frame
      const mark = document.createElement("img");
      const drawn = markImage({ ...category, alpha: 1 }, 5, 2, style);
      [mark.src, mark.alt, mark.width] = [drawn.toDataURL(), "", drawn.width / 2];
      button.append(mark, `${category.name} (${counts[number].toLocaleString("en")})`);
      button.addEventListener("click", () => {
        only = only === number ? -1 : number;
        for (const other of legend.children) other.setAttribute("aria-pressed", String(only >= 0 && other === button));
        draw();
      });
      legend.append(button);
    });
  }
  function setZoom(next, middle) {
    zoom = Math.min(64, Math.max(1, next));
    centre = zoom === 1 ? [high[0] / 2, high[1] / 2] : middle;
    [wider.disabled, closer.disabled, whole.disabled] = [zoom === 1, zoom === 64, zoom === 1];
    // A finger on the whole map scrolls the page; on a part of it, it moves the map as a mouse does.
    board.style.touchAction = zoom > 1 ? "none" : "pan-y";
  }
  const zoomTo = (next, middle) => (setZoom(next, middle), draw());
  const middle = () => (chosen < 0 ? centre : [xs[chosen], ys[chosen]]);
  const zooms = { "-": () => zoomTo(zoom / 2, middle()), "+": () => zoomTo(2 * zoom, middle()), 0: () => zoomTo(1) };
  for (const button of [wider, closer, whole]) button.addEventListener("click", () => zooms[button.dataset.zoom]());

  let held = null; // where the mouse or finger began to drag
  const at = (event) => {
    const box = board.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  board.addEventListener("pointerdown", (event) => {
    choose(nearest(...at(event)));
    if (event.isPrimary && zoom > 1) {
      held = [...at(event), ...centre];
      board.setPointerCapture(event.pointerId);
    }
  });
  board.addEventListener("pointerup", () => (held = null));
  board.addEventListener("pointercancel", () => (held = null));
  board.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (held && !event.isPrimary) return; // a second finger
    if (!held) {
      const point = nearest(x, y);
      if (point >= 0) choose(point); // the last one stays, so that its text can be read
      return;
    }
    centre = [held[2] - (x - held[0]) / scale(), held[3] + (y - held[1]) / scale()];
    draw();
  });
  const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  board.addEventListener("keydown", (event) => {
    const key = event.key === "=" ? "+" : event.key;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (zooms[key]) zooms[key]();
    else if (key === "Escape") choose(-1);
    else if (arrows[key] && chosen >= 0) choose(neighbour(arrows[key]));
    else if (arrows[key]) choose(middlePoint());
    else return;
    event.preventDefault();
    if (zoom > 1 && arrows[key] && chosen >= 0) {
      const [x, y] = place_px(chosen);
      const [width, height] = size_px();
      if (x < 0 || y < 0 || x > width || y > height) zoomTo(zoom, middle());
    }
  });
  // The shown point nearest to the middle of the view.
  function middlePoint() {
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < count; i++) {
      const distance = (xs[i] - centre[0]) ** 2 + (ys[i] - centre[1]) ** 2;
      if (distance < least && isShown(i)) [best, least] = [i, distance];
    }
    return best;
  }
  choice.addEventListener("change", () => {
    coloured = colourings[choice.value];
    only = -1;
    showLegend();
    draw();
  });
  const redraw = () => (showLegend(), draw());
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
  showLegend();
  setZoom(1);
  new ResizeObserver(draw).observe(board); // which also draws it first
}
for (const holder of document.querySelectorAll(".video-map")) startMap(holder);
