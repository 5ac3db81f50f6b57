/* This browser, in the server's place */

Object.assign(WORDS.en, { here: "Everything is computed in this browser. No text leaves it.", loading: "Loading the model …",
  lost: "The files of this page cannot be read; open it through a web server." });
Object.assign(WORDS.zh, { here: "所有计算都在您的浏览器里完成，文本不会离开这里。", loading: "正在加载模型……",
  lost: "读不到本页的文件；请通过网页服务器打开。" });
status(say.loading);
const ask = (() => {
  // A worker made of a blob stands under this page's policy; one made of a file would stand under none.
  const home = JSON.stringify(new URL(".", document.baseURI).href), waiting = new Map();
  const worker = new Worker(URL.createObjectURL(new Blob([`const HOME = ${home}; importScripts(HOME + "tokens.js", HOME + "worker.js");`])));
  let latest = 0, loaded = false, lost = false;
  worker.onmessage = ({ data: { id, found, error } }) => {
    if (!loaded) { loaded = true; status(""); }
    const { give, refuse } = waiting.get(id) ?? {};
    waiting.delete(id);
    if (error) refuse?.(new Error(error)); else give?.(found);
  };
  worker.onerror = () => {
    lost = true;
    for (const { refuse } of waiting.values()) refuse(new Error(say.lost));
  };
  return (path, body, signal) => new Promise((give, refuse) => {
    if (lost) throw new Error(say.lost);
    signal?.throwIfAborted();
    const id = ++latest;
    waiting.set(id, { give, refuse });
    signal?.addEventListener("abort", () => { waiting.delete(id); worker.postMessage({ id }); refuse(signal.reason); });
    worker.postMessage({ id, path, body });
  });
})();

