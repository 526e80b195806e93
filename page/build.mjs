// Builds dist/page.html, one file with everything in it, and dist/content-security-policy, which allows that and nothing else.
//
//     node build.mjs [FOLDER]     into FOLDER instead of dist

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { buildSync } from "esbuild";

const out = process.argv[2] ?? "dist";
const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");

function bundle(entry, options = {}) {
  const { outputFiles } = buildSync({
    absWorkingDir: import.meta.dirname,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    charset: "utf8",
    target: ["chrome123", "firefox128", "safari17.5"],
    legalComments: "none",
    ...options,
  });
  return outputFiles[0].text.trim();
}

// in a script element, this would end it
const script = bundle("src/main.ts", { format: "iife" }).replaceAll("</script", "<\\/script");
const style = bundle("src/style.css");
const license = read("node_modules/uplot/LICENSE").trim();
const { version } = JSON.parse(read("node_modules/uplot/package.json"));

const means = (_, title, what, counted) =>
  `<h3>${title}</h3><table class="means" aria-label="CPU per request: ${title}"><thead><tr><th scope="col">${what}</th><th class="bars" aria-hidden="true"></th>` +
  `<th scope="col">CPU/${counted === "Requests" ? "request" : "handshake"}</th><th scope="col">${counted}</th></tr></thead><tbody></tbody></table>`;

const page = read("src/page.html")
  .replace("<html", `<!--\nuPlot ${version}, which draws the charts of this page:\n\n${license}\n-->\n<html`)
  .replace(/\{\{means:([\w ]+):(\w+):(\w+)\}\}/g, means)
  .replace("{{style}}", () => style)
  .replace("{{script}}", () => script);

const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = [
  "default-src 'none'",
  `script-src ${hash(script)}`,
  `style-src ${hash(style)}`,
  "connect-src 'self'",
  "img-src data:", // the icon
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'", // nothing makes markup of text
  "trusted-types 'none'",
].join("; ");

mkdirSync(out, { recursive: true });
writeFileSync(`${out}/page.html`, page);
writeFileSync(`${out}/content-security-policy`, `${policy}\n`);
