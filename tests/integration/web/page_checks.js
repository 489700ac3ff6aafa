// Looked at in the open page by test_page_layout.py; each function returns what is wrong.
({
  /** Texts with less contrast than WCAG 2.1 AA asks for: 4.5, or 3 where they are large. */
  lowContrast() {
    const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const luminance = (colour) => {
      const [red, green, blue] = colour.slice(0, 3).map((part) => linear(part / 255));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (element) => {
      for (let one = element; one; one = one.parentElement) {
        const colour = numbers(getComputedStyle(one).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      return [255, 255, 255];
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const text = texts.currentNode.data.trim();
      const element = texts.currentNode.parentElement;
      // The labels on the picture have a ground of their own; what is disabled need not be read.
      if (!text || !element.checkVisibility() || element.closest(".stage, .offscreen, .skip, :disabled")) continue;
      const { color, fontSize, fontWeight } = getComputedStyle(element);
      const [dark, light] = [luminance(numbers(color)), luminance(ground(element))].sort((a, b) => a - b);
      const ratio = (light + 0.05) / (dark + 0.05);
      const large = parseFloat(fontSize) >= 24 || (parseFloat(fontSize) >= 18.66 && fontWeight >= 700);
      if (ratio < (large ? 3 : 4.5)) found.push(`${text}: ${ratio.toFixed(2)}`);
    }
    return found;
  },

  /** Controls and pictures that a screen reader has no name for. */
  unnamed() {
    const named = "a, button, input, select, textarea, summary, [role=slider], [role=meter], canvas, img";
    const name = (one) => {
      const labels = [...(one.labels ?? [])].map(({ textContent }) => textContent).join("");
      return (one.ariaLabel || one.alt || labels || one.textContent).trim();
    };
    const shown = [...document.querySelectorAll(named)].filter((one) => one.checkVisibility());
    return shown.filter((one) => !one.closest("[aria-hidden=true]") && !name(one)).map((one) => one.outerHTML);
  },

  /** Controls that a finger cannot hit well: less than 44 px. Links inside a sentence are not meant. */
  small() {
    const touched = [...document.querySelectorAll("a.btn, button, select, input, summary, .chip, .pages a")];
    return touched
      .filter((one) => one.checkVisibility() && !one.closest(".offscreen"))
      .map((one) => [one.textContent || one.id, (one.closest(".score, .check, .thumb") ?? one).getBoundingClientRect()])
      .filter(([, { width, height }]) => width < 43.5 || height < 43.5)
      .map(([name, { width, height }]) => `${name}: ${width} × ${height}`);
  },
})
