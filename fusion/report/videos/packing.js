// Reads what packing.py wrote.
const KINDS = { 8: Uint8Array, 16: Uint16Array, 32: Uint32Array };
function unpackedNumbers(text) {
  const [bits, data] = text.split(":");
  const letters = atob(data);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new KINDS[bits](bytes.buffer);
}
function unpackedTexts(text) {
  let before = "";
  return text.split("\n").map((line) => (before = before.slice(0, parseInt(line.slice(0, 2), 36)) + line.slice(2)));
}
// The videos of a map or list: number i of each array belongs to video i.
function unpackedVideos(holder) {
  const data = JSON.parse(holder.querySelector("script").textContent);
  return {
    ...data,
    ids: unpackedTexts(data.ids),
    labels: unpackedNumbers(data.labels),
    predicted: unpackedNumbers(data.predicted), // 0: not evaluated
    scores: unpackedNumbers(data.scores), // ten-thousandths
    states: unpackedNumbers(data.states),
  };
}
const STATES = ["–", "right", "wrong"];
const labelOf = (videos, i) => videos.labelNames[videos.labels[i]] || "–";
const predictionOf = (videos, i) => (videos.predicted[i] ? videos.classes[videos.predicted[i] - 1] : "–");
const scoreOf = (videos, i) => (videos.predicted[i] ? (videos.scores[i] / 10000).toFixed(3) : "–");
