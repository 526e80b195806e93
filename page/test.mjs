// Runs the tests of what needs no browser: node test.mjs

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildSync } from "esbuild";

const folder = mkdtempSync(join(tmpdir(), "request-cpu-page-"));
const outfile = join(folder, "page.test.mjs");
buildSync({ absWorkingDir: import.meta.dirname, entryPoints: ["test/page.test.ts"], outfile, bundle: true,
  format: "esm", platform: "node" });
const { status } = spawnSync(process.execPath, ["--test", "--test-reporter=dot", outfile], { stdio: "inherit" });
rmSync(folder, { recursive: true });
process.exit(status ?? 1);
