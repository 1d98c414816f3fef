// In a notebook: the page in a frame instead of the table, once it is there; styles of neither reach the other.
const holder = document.querySelector(`[data-freezeinspect="${number}"]:not([data-is-live])`);
if (!holder) return;
holder.dataset.isLive = "yes";
const isDark = () => {
  for (let one = holder; one; one = one.parentElement) {
    const [red, green, blue, alpha = 1] = (getComputedStyle(one).backgroundColor.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    if (alpha > 0.5) return 0.3 * red + 0.59 * green + 0.11 * blue < 128;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches;
};
const frame = document.createElement("iframe");
frame.setAttribute("sandbox", "allow-scripts");
frame.title = "freezeinspect";
frame.style.cssText = "display: block; width: 100%; height: 0; border: 0";
window.addEventListener("message", ({ source, data }) => {
  if (source !== frame.contentWindow || typeof data?.freezeinspect !== "number") return;
  frame.style.height = `${Math.min(data.freezeinspect, 2000)}px`;
  holder.firstElementChild.hidden = true;
});
frame.srcdoc = page.replace("<html", `<html data-theme="${isDark() ? "dark" : "light"}"`);
holder.append(frame);
