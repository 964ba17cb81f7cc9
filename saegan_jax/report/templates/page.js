"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);

// The namespace as the parser knows it: the page names no address at all.
const SVG = svgNamespace();

function svgNamespace() {
  const holder = document.createElement("div");
  holder.innerHTML = "<svg></svg>";
  return holder.firstChild.namespaceURI;
}

// Text is set as text, never as HTML: names come from data sets and folders.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shown(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const text = Number(value).toPrecision(digits);
  return text.includes("e") ? text : String(Number(text));
}
