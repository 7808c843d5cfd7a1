// Tests the web page at / in a browser: content, updates, lost connections, keyboard navigation,
// and small and large screens.
//
//   PLAYWRIGHT=DIR [CHROMIUM=PATH] [SCREENSHOTS=DIR] [TOKEN=…] [READ_TOKEN=…] node page.mjs BASE_URL DIRECTORY
//
// PLAYWRIGHT is the directory that contains `playwright-core`. The host runs in DIRECTORY with the
// sources `app` (app.json, delivered to out.json), `broken` (broken.json, which is not JSON) and
// `later` (a missing file). With TOKEN, the host requires tokens: TOKEN has the scope `admin`,
// READ_TOKEN the scope `read`.

import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [base, directory] = process.argv.slice(2);
if (!base || !directory || !process.env.PLAYWRIGHT) {
  console.error("usage: PLAYWRIGHT=DIR node page.mjs BASE_URL DIRECTORY");
  process.exit(2);
}
const require = createRequire(`${resolve(process.env.PLAYWRIGHT)}/`);
const { chromium } = require("playwright-core");
const { SCREENSHOTS: screenshots, TOKEN: token, READ_TOKEN: readToken } = process.env;
const SECRET = "correct-horse-battery";
const WIDTHS = [360, 768, 1280];
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];
const MORE_FLAGS = ["--disable-background-networking", "--disable-component-update", "--disable-sync"];

let failures = 0;
const noise = [];

async function check(what, test) {
  try {
    await test();
    console.log(`ok: ${what}`);
  } catch (error) {
    failures += 1;
    console.log(`not ok: ${what}: ${String(error.message).split("\n").slice(0, 3).join(" ")}`);
  }
}

function expect(is, why) {
  if (!is) throw new Error(why);
}

/** Replaces the value of the source `app` atomically. */
function change(value) {
  const path = join(directory, "app.json");
  writeFileSync(`${path}.new`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${path}.new`, path);
}

const value = (number) => ({ number, database: { host: "db.example.com", password: SECRET }, name: "demo" });

/** Waits until `test` returns true. Returns the waiting time in milliseconds. */
async function until(what, test, limit = 10_000) {
  const began = Date.now();
  while (!(await test())) {
    expect(Date.now() - began < limit, `not within ${limit} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 20));
  }
  return Date.now() - began;
}

function listen(page) {
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") noise.push(message.text());
  });
  page.on("pageerror", (error) => noise.push(error.message));
}

const row = (page, name) => page.locator("table.sources tbody tr", { has: page.getByRole("link", { name, exact: true }) });
const link = (page) => page.locator("#link-text");
const present = (page) => page.getByLabel("Text of the value");
const isLive = (page) => until("live", async () => (await link(page).textContent()) === "live", 35_000);
const overview = (page) => page.goto(`${base}/#/`);

async function openSource(page, name) {
  await page.goto(`${base}/#/source/${encodeURIComponent(name)}`);
  await page.getByRole("heading", { level: 1, name, exact: true }).waitFor();
}

const revisionOf = (page) => row(page, "app").locator(".c-revision .num").textContent();
const shows = (page, text) => until(`the value has ${text}`, async () => (await present(page).textContent()).includes(text), 3_000);

async function tokens(page) {
  await check("sign-in requires a valid token", async () => {
    await overview(page);
    const field = page.getByLabel("Token", { exact: true });
    await field.fill("wrong-token");
    await field.press("Enter");
    await page.getByRole("alert").filter({ hasText: "Invalid token" }).waitFor();
    expect((await page.evaluate(() => sessionStorage.length)) === 0, "a wrong token is stored");
    await field.fill(token);
    await field.press("Enter");
    await row(page, "app").waitFor();
    expect((await page.evaluate(() => localStorage.length)) === 0, "the token is stored beyond the life of the tab");
  });
  await check("signing out forgets the token", async () => {
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Token", { exact: true }).fill(token);
    await page.keyboard.press("Enter");
    await row(page, "app").waitFor();
    await isLive(page);
  });
  // The browser logs each response with status 401, which the checks above cause.
  noise.splice(0, noise.length, ...noise.filter((text) => !text.includes("401")));
}

async function reading(browser) {
  await check("a read-only token disables all actions", async () => {
    const page = await (await browser.newContext()).newPage();
    await openTokenForm(page, readToken);
    await openSource(page, "app");
    await page.getByRole("button", { name: "Reload" }).click();
    await page.getByText("Read-only access.").waitFor();
    expect(await page.getByRole("button", { name: "Reload" }).isDisabled(), "the reload button is still enabled");
    const back = page.getByRole("button", { name: /Roll back to this/ }).first();
    expect(await back.isDisabled(), "the rollback button is enabled");
  });
}

async function openTokenForm(page, shown) {
  await overview(page);
  await page.getByLabel("Token", { exact: true }).fill(shown);
  await page.keyboard.press("Enter");
  await row(page, "app").waitFor();
}

async function overviews(page) {
  await check("the overview shows the state of all sources", async () => {
    await overview(page);
    await row(page, "app").getByText("current", { exact: true }).waitFor();
    await row(page, "broken").getByText("value rejected").waitFor();
    await row(page, "later").getByText("waiting", { exact: true }).waitFor();
    const names = await page.locator("table.sources .name").allTextContents();
    expect(names.at(-1) === "app", `the sources that need attention are not listed first: ${names}`);
    await isLive(page);
  });
  await check("the list is filtered by name and by state", async () => {
    await page.getByLabel("Filter by name or state").fill("brok");
    await until("one row", async () => (await page.locator("table.sources tbody tr:visible").count()) === 1);
    await page.getByLabel("Filter by name or state").fill("");
    await page.getByRole("button", { name: /waiting/ }).click();
    await row(page, "app").waitFor({ state: "hidden" });
    await page.getByRole("button", { name: /waiting/ }).click();
    await row(page, "app").waitFor();
  });
  await check("the overview shows a change within a second without a reload", async () => {
    await page.evaluate(() => (window.isSame = true));
    const before = Number(await revisionOf(page));
    change(value(2));
    const took = await until("the next revision", async () => Number(await revisionOf(page)) > before, 1_000);
    expect(await page.evaluate(() => window.isSame), "the page was loaded again");
    console.log(`   it took ${took} ms`);
  });
}

async function values(page) {
  await check("secrets in a value are masked until they are revealed", async () => {
    await openSource(page, "app");
    await shows(page, '"number": 2');
    expect(!(await page.content()).includes(SECRET), "the secret is in the page");
    const show = present(page).getByRole("button", { name: "show password" });
    await show.click();
    await shows(page, SECRET);
    await present(page).getByRole("button", { name: "hide password" }).click();
    expect(!(await page.content()).includes(SECRET), "the secret is not hidden again");
  });
  await check("the page of a source shows a new value within a second", async () => {
    change(value(3));
    await until("the new value", async () => (await present(page).textContent()).includes('"number": 3'), 1_000);
  });
  await check("the diff shows removed and added lines and masks secrets", async () => {
    await page.locator("table.diff tr.delete", { hasText: '"number": 2' }).waitFor();
    await page.locator("table.diff tr.insert", { hasText: '"number": 3' }).waitFor();
    const diff = page.locator("table.diff");
    expect(!(await diff.textContent()).includes(SECRET), "the secret is in the diff");
    await diff.getByRole("button", { name: "show password" }).first().waitFor();
  });
  await check("any two revisions can be compared by keyboard", async () => {
    await page.getByLabel(/^Compare from revision/).nth(2).focus();
    await page.keyboard.press("Space");
    await page.locator("table.diff tr.delete", { hasText: '"number": 1' }).waitFor();
  });
}

async function rollBacks(page) {
  await check("a rollback requires confirmation and pins the source until it is resumed", async () => {
    await page.locator("table.history tbody tr").nth(1).getByRole("button", { name: /Roll back to this/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByText("The source is then pinned").waitFor();
    await dialog.getByRole("button", { name: "Roll back" }).click();
    await page.locator(".state-line").getByText("pinned").waitFor();
    await shows(page, '"number": 2');
    await page.getByRole("button", { name: "Unpin" }).click();
    await page.locator(".state-line").getByText("pinned").waitFor({ state: "detached" });
    await shows(page, '"number": 3');
  });
  await check("the reload button reads the source", async () => {
    await page.getByRole("button", { name: "Reload" }).click();
    await page.getByText("Reload started").waitFor();
  });
}

async function connections(page, context) {
  await check("a lost connection is shown, and missed changes appear after the reconnect", async () => {
    await context.setOffline(true);
    await page.getByText(/Last update: \d\d:\d\d:\d\d/).waitFor();
    expect((await link(page).textContent()).startsWith("reconnecting"), "the connection state is not `reconnecting`");
    await shows(page, '"number": 3');
    change(value(4));
    await new Promise((done) => setTimeout(done, 1_500));
    await context.setOffline(false);
    await isLive(page);
    await shows(page, '"number": 4');
    expect(!(await page.locator("#banner").isVisible()), "the banner of the lost connection is still visible");
  });
  await check("a failed event stream is reopened and the overview is updated", async () => {
    await page.route("**/v1/events", (route) => route.abort());
    await overview(page);
    await page.reload();
    await until("reconnecting", async () => (await link(page).textContent()).startsWith("reconnecting"));
    change(value(5));
    await page.unroute("**/v1/events");
    await isLive(page);
    await row(page, "app").waitFor();
    await row(page, "app").getByRole("link").click();
    await shows(page, '"number": 5');
  });
  // The browser logs each failed request. The checks above make requests fail.
  noise.splice(0, noise.length, ...noise.filter((text) => !/ERR_(INTERNET_DISCONNECTED|FAILED)/.test(text)));
}

async function keyboard(page) {
  await check("keyboard navigation reaches a source and its rollback dialog; Escape closes the dialog", async () => {
    await overview(page);
    await page.reload();
    await row(page, "app").waitFor();
    await isLive(page);
    const focused = () => page.evaluate(() => [document.activeElement.textContent, document.activeElement.getAttribute("aria-label")].join(" "));
    const tabTo = (text) => until(`the focus is on ${text}`, async () => {
      await page.keyboard.press("Tab");
      return (await focused()).includes(text);
    });
    await page.keyboard.press("Tab");
    expect((await focused()).includes("Skip"), "the first element with the focus is not the skip link");
    await page.keyboard.press("Enter");
    await tabTo("app");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "app", exact: true }).waitFor();
    await until("the title has the focus", () => page.evaluate(() => document.activeElement.tagName === "H1"));
    await page.locator("table.history").waitFor();
    await tabTo("Roll back to this");
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect((await focused()).includes("Roll back to this"), "the focus is not on the rollback button again");
    expect((await page.locator(".state-line").getByText("pinned").count()) === 0, "the source was rolled back");
  });
}

async function screens(page) {
  for (const width of WIDTHS) {
    await check(`the pages fit into a width of ${width} pixels`, async () => {
      await page.setViewportSize({ width, height: 900 });
      for (const [view, go] of [["overview", overview], ["source", (page) => openSource(page, "app")]]) {
        await go(page);
        await page.locator(view === "overview" ? "table.sources tbody tr" : "table.history").first().waitFor();
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        expect(wide <= 0, `the ${view} is wider by ${wide} pixels`);
        await picture(page, view, width);
      }
    });
  }
}

async function picture(page, view, width) {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(screenshots, `${view}-${width}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: null });
}

change(value(1));
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, ...MORE_FLAGS] });
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  listen(page);
  if (token) await tokens(page);
  await overviews(page);
  await values(page);
  await rollBacks(page);
  await keyboard(page);
  await screens(page);
  await connections(page, context);
  if (readToken) await reading(browser);
  await check("the console has no errors and no policy violations", () => expect(noise.length === 0, noise.join(" | ")));
} finally {
  await browser.close();
}
process.exit(failures ? 1 : 0);
