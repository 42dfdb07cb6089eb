"use strict";

// Helpers that every section's script shares.
const GW = {
  // The JSON that the section `id` carries.
  data(id) {
    return JSON.parse(document.getElementById(`data-${id}`).textContent);
  },

  // An element with properties and children; a string child is text, never markup.
  element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(properties)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.className = value;
      else if (key in made && !key.startsWith("aria")) made[key] = value;
      else made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return made;
  },

  // A colour of the style sheet by its name there, in the present light or dark.
  colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  },

  // Numbers as the report writes them (words.py).
  number(value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace(/\.?0*e\+?/, "e").replaceAll("-", "−");
    if (size >= 1e5) return Math.round(value).toLocaleString("en").replace("-", "−");
    const decimals = Math.max(0, 2 - Math.floor(Math.log10(size)));
    return value.toLocaleString("en", { maximumFractionDigits: decimals }).replace("-", "−");
  },

  show(value, format) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    if (format === "share") return `${(value * 100).toFixed(1)}\u202f%`.replace("-", "−");
    if (format === "seconds") return `${GW.number(value)}\u202fs`;
    return GW.number(value);
  },
};
