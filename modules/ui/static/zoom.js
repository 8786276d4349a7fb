// Looking closely at a picture: wheel, pinch, drag, double click; a swipe steps on while nothing is enlarged.

const MOST = 8;

export function zoomable(stage, image, { swipe }) {
  const pointers = new Map();
  let [scale, x, y] = [1, 0, 0];
  let begun = null;

  function apply(smooth = false) {
    const [reach_x, reach_y] = [Math.max(0, (image.offsetWidth * scale - stage.clientWidth) / 2), Math.max(0, (image.offsetHeight * scale - stage.clientHeight) / 2)];
    x = Math.min(reach_x, Math.max(-reach_x, x));
    y = Math.min(reach_y, Math.max(-reach_y, y));
    image.style.transition = smooth ? "transform 160ms ease-out" : "none";
    image.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
    stage.classList.toggle("enlarged", scale > 1);
  }

  // Enlarges so that the point under the pointer stays under it.
  function to(wanted, at = null, smooth = false) {
    const next = Math.min(MOST, Math.max(1, wanted));
    const box = stage.getBoundingClientRect();
    const [from_x, from_y] = at ? [at.clientX - box.left - box.width / 2, at.clientY - box.top - box.height / 2] : [0, 0];
    x = from_x - ((from_x - x) / scale) * next;
    y = from_y - ((from_y - y) / scale) * next;
    scale = next;
    apply(smooth);
  }

  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  };

  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    to(scale * Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => to(scale > 1 ? 1 : 2.5, event, true));
  stage.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    begun = { x, y, scale, event, spread: pointers.size === 2 ? spread() : 0 };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    if (pointers.size === 2 && begun.spread) to((begun.scale * spread()) / begun.spread);
    else if (scale > 1) {
      [x, y] = [begun.x + event.clientX - begun.event.clientX, begun.y + event.clientY - begun.event.clientY];
      apply();
    }
  });
  const ended = (event) => {
    const alone = pointers.size === 1;
    pointers.delete(event.pointerId);
    const [right, down] = [event.clientX - begun.event.clientX, event.clientY - begun.event.clientY];
    if (event.type === "pointerup" && alone && scale === 1 && event.pointerType === "touch" && Math.abs(right) > 50 && Math.abs(right) > 2 * Math.abs(down)) swipe(right < 0 ? 1 : -1);
  };
  stage.addEventListener("pointerup", ended);
  stage.addEventListener("pointercancel", ended);

  return {
    reset() { [scale, x, y] = [1, 0, 0]; apply(); },
    toggle() { to(scale > 1 ? 1 : 2.5, null, true); },
  };
}
