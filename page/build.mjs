// Builds dist: the page, what it loads (script, style, icon), and the policy that allows these and nothing else.
//
// The script and the style are files of their own, and not in the page: a server may add a Content-Security-Policy
// to the page's own, browsers enforce both, and most policies allow 'self' but nothing inline.
//
//     node build.mjs [FOLDER]     into FOLDER instead of dist

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

const license = read("node_modules/uplot/LICENSE").trim();
const { version } = JSON.parse(read("node_modules/uplot/package.json"));

const means = (_, title, what, counted) =>
  `<h3>${title}</h3><table class="means" aria-label="CPU per request: ${title}"><thead><tr><th scope="col">${what}</th><th class="bars" aria-hidden="true"></th>` +
  `<th scope="col">CPU/${counted === "Requests" ? "request" : "handshake"}</th><th scope="col">${counted}</th></tr></thead><tbody></tbody></table>`;

// src/status.rs puts arguments of the request in place of {{arguments}}, and build.rs what changes with a file in
// place of {{tag:FILE}}
const page = read("src/page.html").replace(/\{\{means:([\w ]+):(\w+):(\w+)\}\}/g, means);
const script = `/*\nuPlot ${version}, which draws the charts of the page:\n\n${license}\n*/\n${bundle("src/main.ts", { format: "iife" })}\n`;

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'", // the icon
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'", // nothing makes markup of text
  "trusted-types 'none'",
].join("; ");

mkdirSync(out, { recursive: true });
writeFileSync(`${out}/page.html`, page);
writeFileSync(`${out}/page.js`, script);
writeFileSync(`${out}/page.css`, `${bundle("src/style.css")}\n`);
writeFileSync(`${out}/icon.svg`, read("src/icon.svg"));
writeFileSync(`${out}/content-security-policy`, `${policy}\n`);
