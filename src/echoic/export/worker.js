"use strict";
/* What a server's routes answer (echoic/serve/http.py), answered beside the page: by tokens.js, which stands before
   this, and an ONNX file. HOME is the page's folder.
   In: { id, path, body }, or { id } when nobody waits for that answer any more. Out: { id, found }, or { id, error }. */

const MOST_STEPS = 64, MOST_LABELS = 8, TOKENS = 4096;
const waited = new Set();
let turn = Promise.resolve();

onmessage = ({ data: { id, path, body } }) => {
  if (!path) { waited.delete(id); return; }
  waited.add(id);
  turn = turn.then(() => waited.has(id) && answered(id, path, body));
};
async function answered(id, path, body) {
  try { postMessage({ id, found: await ROUTES[path](await model, body, () => waited.has(id)) }); }
  catch (error) { postMessage({ id, error: error.message }); }
  waited.delete(id);
}

const model = opened();
model.catch(() => {}); // whoever asks is told
async function opened() {
  const [told, graph, wasm, ort] = await Promise.all([got("model.json", "json"), got("model.onnx", "arrayBuffer"),
    got("runtime/ort-wasm-simd-threaded.wasm", "arrayBuffer"), import(`${HOME}runtime/ort.wasm.bundle.min.js`)]);
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1 }); // more want headers that a plain file server does not send
  const session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
  return { ...told, encode: tokenizer(told.text), run: (ids, lengths) => session.run({
    ids: new ort.Tensor("int64", ids, [lengths.length, ids.length / lengths.length]), lengths: new ort.Tensor("int64", lengths, [lengths.length]) }, ["logits"]) };
}
async function got(name, as) {
  const answer = await fetch(HOME + name);
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return answer[as]();
}

const ROUTES = {
  "v1/models": ({ about }) => ({ models: [about] }),

  async "v1/predict"(model, { texts }, wanted) {
    const found = await logits(model, texts.map(text => model.encode(text).ids), wanted);
    return { model: model.about.name, predictions: found.map((row, i) => record(model, texts[i], probabilities(model, row))) };
  },

  async "v1/explain"(model, { text, method, label }, wanted) {
    const { labels } = model.about, { ids, spans } = model.encode(text), points = [...text], window = Math.ceil(ids.length / MOST_STEPS);
    const [whole] = await logits(model, [ids], wanted), found = probabilities(model, whole);
    const column = label === undefined ? best(found) : labels.indexOf(label);
    const { scores, ...more } = await METHODS[method](model, ids, whole, column, window, wanted);
    const most = model.text.max_tokens, notes = []; // as explain/record.py says them
    if (window > 1) notes.push(`a long text: ${window} neighbouring tokens were tried together and share what was found`);
    if (most && ids.length === most) notes.push(`the model reads the first ${most.toLocaleString("en-US")} tokens (text.max_tokens)`);
    return { model: model.about.name, text, method, label: labels[column], probability: found[column], ...(window > 1 && { window }), ...(notes.length && { notes }), ...more, completeness: null,
      tokens: spans.map(([start, end], i) => ({ text: points.slice(start, end).join(""), start, end, score: scores[i] })) };
  },
};

/* (model, ids, their logits, the label's column, tokens that are tried together, ...) -> a score of each token */
const METHODS = {
  async occlusion(model, ids, whole, column, window, wanted) {
    const group = ids.map((_, t) => Math.floor(t / window)), size = sizes(group);
    const without = await logits(model, size.map((_, i) => ids.map((id, t) => group[t] === i ? UNKNOWN : id)), wanted);
    return { scores: group.map(i => (whole[column] - without[i][column]) / size[i]) };
  },

  async trace(model, ids, whole, column, window, wanted) {
    const group = ids.map((_, t) => Math.floor(t / window)), size = sizes(group);
    const read = await logits(model, [[EMPTY], ...size.map((_, i) => ids.slice(0, (i + 1) * window))], wanted);
    const [start, ...after] = read.map(row => probabilities(model, row)), moved = after.map((row, i) => (row[column] - (i ? after[i - 1] : start)[column]) / size[i]);
    return { scores: group.map(i => moved[i]), beliefs: ledBy(model, group.map(i => after[i]), column), turns: turns(model, group.map(i => after[i])) };
  },
};
function sizes(group) {
  const out = [];
  for (const i of group) out[i] = (out[i] || 0) + 1;
  return out;
}

function ledBy({ about: { labels } }, beliefs, explained) {
  const times = labels.map(() => 0);
  for (const row of beliefs) times[best(row)]++;
  let led = labels.map((_, i) => i).filter(i => times[i] && i !== explained).sort((a, b) => times[b] - times[a]);
  if (!led.length && labels.length === 2) led = [1 - explained];
  return Object.fromEntries([explained, ...led].slice(0, MOST_LABELS).map(i => [labels[i], beliefs.map(row => Number(row[i].toFixed(6)))]));
}
function turns({ about: { labels } }, beliefs) {
  const lead = beliefs.map(best);
  return lead.flatMap((now, t) => t && now !== lead[t - 1] ? [{ token: t, before: labels[lead[t - 1]], after: labels[now] }] : []);
}

function record({ about: { labels, several }, thresholds }, text, found) {
  const first = best(found), confidence = found[first], each = Object.fromEntries(labels.map((name, i) => [name, found[i]]));
  if (!several) return { text, label: labels[first], confidence, probabilities: each };
  const given = labels.filter((_, i) => found[i] >= (thresholds ? thresholds[i] : .5));
  return { text, label: given.includes(labels[first]) ? labels[first] : given[0] ?? null, labels: given, confidence, probabilities: each };
}
const best = row => row.reduce((first, each, i) => each > row[first] ? i : first, 0);
function probabilities({ about: { several } }, row) {
  if (several) return row.map(each => 1 / (1 + Math.exp(-each)));
  const top = Math.max(...row), grown = row.map(each => Math.exp(each - top)), sum = grown.reduce((a, b) => a + b);
  return grown.map(each => each / sum);
}

/* The logits of rows of ids, those of like length together. Between two calls of the network it is seen whether
   somebody still waits for them. */
async function logits(model, rows, wanted) {
  const order = rows.map((_, i) => i).sort((a, b) => rows[a].length - rows[b].length), out = [];
  for (let place = 0, next; place < order.length; place = next) {
    await new Promise(go => setTimeout(go));
    if (!wanted()) throw new Error("nobody waits");
    for (next = place + 1; next < order.length && (next + 1 - place) * rows[order[next]].length <= TOKENS;) next++;
    const part = order.slice(place, next), steps = rows[part[part.length - 1]].length, ids = new BigInt64Array(part.length * steps);
    part.forEach((row, i) => rows[row].forEach((id, t) => { ids[i * steps + t] = BigInt(id); }));
    const { logits: { data } } = await model.run(ids, BigInt64Array.from(part, row => BigInt(rows[row].length)));
    const classes = data.length / part.length;
    part.forEach((row, i) => { out[row] = [...data.subarray(i * classes, (i + 1) * classes)]; });
  }
  return out;
}
