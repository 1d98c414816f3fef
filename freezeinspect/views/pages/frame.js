// Within a notebook the page is in a frame: it tells its height, so that the frame can have it.

if (window.parent !== window) {
  document.documentElement.classList.add("framed");
  const tell = () => window.parent.postMessage({ freezeinspect: document.body.scrollHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
  tell();
}
