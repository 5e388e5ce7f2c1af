// report_browser.js CHROMIUM FILE: the report in headless Chromium, at two widths, in two themes.
// Prints what is wrong and ends with 1, or ends with 0. Needs playwright-core; looks at
// accessibility where axe-core is there.
"use strict";
const fs = require("fs");
const {chromium} = require("playwright-core");
const [, , executablePath, file] = process.argv;
let axe = null;
try {
  axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
} catch {
  console.log("no axe-core");
}
const wrong = [];
const expect = (good, what) => {
  if (!good) wrong.push(what);
};

async function keyboard(page) {
  const users = await page.locator("#user option").count();
  await page.focus("#user");
  if (users > 1) {
    const before = await page.textContent("#explorer h3");
    await page.keyboard.press("ArrowDown");
    await page.waitForTimeout(50);
    expect(
      (await page.textContent("#explorer h3")) !== before,
      "an arrow key chooses another user",
    );
  }
  // from the user on: every control is reached by Tab, in the order of the page
  const seen = new Set();
  for (let k = 0; k < 150 && !seen.has("fact"); ++k) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (e.dataset.k !== undefined) return "candidate";
      if (e.type === "radio") return "step";
      return e.classList.contains("fact") ? "fact" : e.id || e.tagName;
    });
    if (at === "candidate" && !seen.has(at)) {
      await page.keyboard.press("Tab");
      const chosen = await page.evaluate(() =>
        document.activeElement.textContent.replace(/ held out$/, ""),
      );
      await page.keyboard.press("Enter");
      expect((await page.textContent("#item > h3")) === chosen, "Enter opens a candidate");
    }
    if (at === "step" && !seen.has(at)) {
      await page.keyboard.press("ArrowLeft");
      expect(await page.isChecked(".steps input[value='3']"), "an arrow key goes to step 3");
      await page.keyboard.press("ArrowRight");
    }
    seen.add(at);
  }
  expect(
    seen.has("candidate") && seen.has("fact"),
    "Tab reaches candidates and facts: " + [...seen],
  );
  const lit = await page.locator(".lit").count();
  expect(
    lit >= 1 && (await page.textContent(".status")).length > 10,
    "focus lights a fact up and says so",
  );
}

async function mouse(page) {
  const thought = page.locator(".thought[data-f]").first();
  if (await thought.count()) {
    await thought.hover();
    expect(
      (await page.locator(".fact.lit").count()) === 1,
      "pointing at a thought lights up its fact",
    );
  }
  await page.locator(".places [data-k='0']").click();
  expect(
    (await page.textContent("#item")).includes("user took"),
    "a click opens the held-out item",
  );
  if (await page.locator(".steps").count()) {
    for (const step of [1, 2, 3, 4]) {
      await page
        .locator(".steps label")
        .nth(step - 1)
        .click();
      const masked = page.locator(".graph svg:visible .masked");
      if (await page.locator(".graph svg").count())
        expect((await masked.count()) >= 1, `step ${step} has a masked edge`);
      expect(
        (await page.textContent("[data-part=prompt]")).includes("[?]"),
        `the prompt of step ${step} masks a rating`,
      );
    }
  }
}

async function visit(browser, width, colorScheme, keys) {
  const page = await browser.newPage({viewport: {width, height: 900}, colorScheme});
  const where = ` (${width} px, ${colorScheme})`,
    before = wrong.length;
  page.on("console", m => {
    if (m.type() === "error" || m.type() === "warning") wrong.push("console: " + m.text());
  });
  page.on("pageerror", e => wrong.push("error: " + e.message));
  page.on("dialog", d => {
    wrong.push("a title ran: " + d.message());
    d.dismiss();
  });
  page.on("request", r => {
    if (!/^(file|data):/.test(r.url())) wrong.push("loads " + r.url());
  });
  await page.goto("file://" + file);
  expect(
    await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
    "wider than the window",
  );
  expect((await page.locator("main section").count()) === 7, "seven sections");
  await (keys ? keyboard(page) : mouse(page));
  await page.evaluate(() =>
    document.querySelectorAll("details").forEach(d => {
      d.open = true;
    }),
  );
  expect(
    await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
    "wider than the window, all open",
  );
  if (axe) {
    await page.evaluate(axe);
    const found = await page.evaluate(() => axe.run());
    for (const v of found.violations)
      if (v.impact === "serious" || v.impact === "critical")
        wrong.push(`axe: ${v.id}: ${v.help}: ${v.nodes[0].html.slice(0, 160)}`);
  }
  for (let k = before; k < wrong.length; ++k) wrong[k] += where;
  await page.close();
}

(async () => {
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  try {
    for (const width of [400, 1400])
      for (const theme of ["light", "dark"]) await visit(browser, width, theme, theme === "light");
  } finally {
    await browser.close();
  }
  for (const w of wrong) console.log(w);
  process.exit(wrong.length ? 1 : 0);
})().catch(e => {
  console.log(e.message);
  process.exit(1);
});
