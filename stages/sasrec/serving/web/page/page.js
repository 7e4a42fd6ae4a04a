// What the page shows comes from the server as data: it goes into text alone, never into HTML.

const byId = (id) => document.getElementById(id);
const MAX_HISTORY = 1000;
const FRONT_MATTER = /^---\n.*?\n---\n+/s; // of the model card, for programs
const SEARCH_PAUSE = 150; // milliseconds after a key

const state = { history: [], hidden: [], reader: null }; // books, oldest first; ids; a held-out user

/** Make an element with properties and children, which are text or elements. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Take from a text what would turn the text around it. */
const shown = (text) => String(text).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "\ufffd");
const name = (book) => make("bdi", {}, shown(book.title ?? `Book ${book.book_id}`));
/** The id where the name is a title, and the ratings. */
const facts = (book) => `${book.title === null ? "" : `id ${shown(book.book_id)} · `}${count(book.ratings, "rating")}`;
const label = (ranker) => ranker.replaceAll("_", " ").replace("sasrec", "SASRec");
const percent = (part) => `${Math.round(100 * part)} %`;
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

function button(label, text, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ariaLabel: shown(label), title: shown(label), ...properties }, text);
}

function bar(part) {
  const filled = make("span");
  filled.style.width = `${100 * part}%`;
  return make("span", { className: "bar", ariaHidden: "true" }, filled);
}

/** Ask the server; the error of a refusal is its sentence. */
async function ask(path, body) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, body && options);
  } catch {
    throw new Error("The server does not answer: start `sasrec serve` again.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `The server answered with status ${response.status}.`);
  return answer;
}

/** Make a function that asks, and that shows an answer only if it has not asked again since. */
function latest(question, show, place) {
  let number = 0;
  return async () => {
    const mine = ++number;
    try {
      const answer = await question();
      if (mine === number) show(answer);
    } catch (error) {
      if (mine === number) place.textContent = error.message;
    }
  };
}

// The search.

const search = latest(
  () => ask(`search?q=${encodeURIComponent(byId("search").value)}`),
  ({ books }) => {
    const asked = byId("search").value.trim();
    byId("found").textContent = asked ? (books.length ? `${count(books.length, "book")}:` : "No book has these words.") : "The most rated books:";
    byId("hits").replaceChildren(...books.map((book) => make("li", {}, hit(book))));
  },
  byId("found"),
);

function hit(book) {
  const about = make("span", { className: "soft small" }, ` ${facts(book)}`);
  return make("button", { type: "button", onclick: () => read(book) }, name(book), about);
}

// The history.

function read(book) {
  change([...state.history, book].slice(-MAX_HISTORY));
}

/** Take another history: a held-out user's own, or one that the person made. */
function change(history, reader = null) {
  state.history = history;
  state.reader = reader;
  byId("reader").replaceChildren(...(reader ? about(reader) : []));
  showHistory();
  update();
}

function showHistory(weights = []) {
  const { history } = state;
  byId("empty").hidden = history.length > 0;
  byId("clear").hidden = byId("keys").hidden = history.length === 0;
  const focused = document.activeElement?.dataset?.key;
  byId("history").replaceChildren(...history.map((book, place) => readBook(book, place, weights)).reverse());
  if (focused) focusOn(focused);
}

function readBook(book, place, weights) {
  const title = book.title ?? book.book_id;
  const weight = weights[place - (state.history.length - weights.length)];
  const seen = weight === undefined ? [] : [bar(weight), make("span", { className: "hidden" }, `attention ${percent(weight)}`)];
  const tool = (key, label, text, onclick, disabled = false) => {
    const made = button(`${label} ${title}`, text, onclick, { disabled });
    made.dataset.key = `${key} ${place}`;
    return made;
  };
  const item = make("li", {},
    make("div", { className: "book" }, name(book), ...seen),
    tool("later", "Move later", "↑", () => move(place, 1, "later"), place === state.history.length - 1),
    tool("earlier", "Move earlier", "↓", () => move(place, -1, "earlier"), place === 0),
    tool("remove", "Remove", "×", () => remove(place)),
  );
  item.onkeydown = (event) => {
    const action = { ArrowUp: () => move(place, 1, "later"), ArrowDown: () => move(place, -1, "earlier"), Delete: () => remove(place) }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  return item;
}

function move(place, by, key) {
  const history = [...state.history];
  if (!history[place + by]) return;
  [history[place], history[place + by]] = [history[place + by], history[place]];
  change(history);
  focusOn(`${key} ${place + by}`);
}

function remove(place) {
  change(state.history.toSpliced(place, 1));
  focusOn(`remove ${Math.max(0, place - 1)}`);
}

/** Put the focus on a button of the history, or if that one is disabled on its neighbour. */
function focusOn(key) {
  const found = document.querySelector(`[data-key="${key}"]`);
  const usable = found?.disabled ? found.parentElement.querySelector("button:enabled") : found;
  (usable ?? byId("search")).focus();
}

// What is recommended.

const question = () => ({
  history: state.history.map((book) => book.book_id),
  k: Number(byId("k").value),
  exclude: state.hidden,
  exclude_seen: byId("exclude-seen").checked,
  min_ratings: Math.max(0, Math.trunc(byId("min-ratings").value)),
});
const recommend = latest(() => ask("recommend", question()), showBooks, byId("status"));
const attend = latest(
  () => ask("attention", { history: question().history }),
  ({ books }) => showHistory(books.map((book) => book.weight)),
  byId("status"),
);

function update() {
  byId("unhide").hidden = state.hidden.length === 0;
  byId("unhide").textContent = `Show ${count(state.hidden.length, "hidden book")}`;
  recommend();
  attend();
}

const RANKED_BY = {
  hybrid: "by the network and by counts",
  network: "by the network alone",
  "recent popularity": "by recent popularity, because there is no history",
};

function showBooks({ books, unknown, ranked_by }) {
  const left_out = unknown.length ? ` Unknown, and left out: ${unknown.map(shown).join(", ")}.` : "";
  byId("status").textContent = `${count(books.length, "book")}, ranked ${RANKED_BY[ranked_by]}.${left_out}`;
  const had_focus = byId("books").contains(document.activeElement);
  byId("books").replaceChildren(...books.map(recommended));
  if (had_focus) byId("books").querySelector("button")?.focus();
}

function recommended(book) {
  const title = book.title ?? book.book_id;
  const is_true = state.reader?.true_book.book_id === book.book_id;
  const similar = make("div", { className: "near detail", hidden: true });
  const opener = button(`Similar to ${title}`, "Similar", () => showSimilar(book, opener, similar), { ariaExpanded: "false" });
  return make("li", { className: is_true ? "true" : "" },
    make("div", { className: "head" },
      make("span", { className: "rank" }, String(book.rank)),
      make("div", { className: "book" }, name(book), ...(is_true ? [make("strong", {}, " — the reader's next book")] : [])),
      make("div", { className: "tools" },
        button(`Add ${title} to the history`, "Add", () => read(book)),
        opener,
        button(`Hide ${title}`, "Hide", () => { state.hidden.push(book.book_id); update(); byId("unhide").focus(); }),
      ),
    ),
    make("p", { className: "soft small detail" },
      `score ${book.score.toFixed(2)} · ${facts(book)}`),
    ...reasons(book.why),
    similar,
  );
}

/** Name the book of the history that leads here most, and the others where that is asked for. */
function reasons(why) {
  if (!why.length) return [];
  const total = why.reduce((sum, book) => sum + book.weight, 0);
  const line = (book) => [make("span", {}, name(book)), ` ${percent(book.weight / total)}`];
  const rows = why.map((book) => make("li", {}, bar(book.weight / total), ...line(book)));
  return [make("details", { className: "small detail why" }, make("summary", {}, "after ", ...line(why[0])), make("ul", { className: "plain" }, ...rows))];
}

async function showSimilar(book, opener, place) {
  place.hidden = !place.hidden;
  opener.ariaExpanded = String(!place.hidden);
  if (place.hidden) return;
  try {
    const found = await ask(`similar?k=5&book_id=${encodeURIComponent(book.book_id)}`);
    const list = (title, books) => make("div", {}, make("h3", {}, title),
      books.length ? make("ol", {}, ...books.map((each) => make("li", {}, name(each)))) : make("p", { className: "soft small" }, "None."));
    place.replaceChildren(list("Nearest in the network", found.by_embedding), list("Read soon after it", found.by_transitions));
  } catch (error) {
    place.textContent = error.message;
  }
}

// A held-out user of the data set.

async function showReader(id) {
  try {
    const reader = await ask(`users/${encodeURIComponent(id)}`);
    change(reader.history, reader);
  } catch (error) {
    byId("reader").textContent = error.message;
  }
}

function about(reader) {
  const rank = ([ranker, ranks]) => `${ranks.full} by ${label(ranker)}`;
  return [make("p", { className: "small" },
    "Reader ", make("bdi", {}, shown(reader.user_id)), ` read ${count(reader.history.length, "book")}, and then `,
    make("strong", {}, name(reader.true_book)), `. Its rank among all books was ${Object.entries(reader.ranks).map(rank).join(", ")}.`)];
}

// The model.

async function showModel() {
  const [health, { card, metrics }] = await Promise.all([ask("health"), ask("card")]);
  byId("model").textContent = `Model ${health.model} · ${count(health.books, "book")} · ranked by ${health.ranked_by}`
    + (health.has_titles ? "" : " · no titles: start it with --titles FILE");
  byId("readers").hidden = health.readers === 0;
  byId("any-reader").onclick = async () => {
    const offset = Math.floor(Math.random() * health.readers);
    showReader((await ask(`users?limit=1&offset=${offset}`)).user_ids[0]);
  };
  byId("card").querySelector("pre").textContent = card.replace(FRONT_MATTER, "") || "The model's folder holds no card.";
  if (metrics) byId("metrics").replaceChildren(table(metrics));
}

/** Show each ranker's metrics at the first cutoff. */
function table(metrics) {
  const cells = (lists) => Object.entries(lists).flatMap(([list, values]) =>
    Object.entries(values).filter(([metric]) => metric.includes("@")).slice(0, 2).map(([metric, value]) => [`${list} ${metric}`, value]));
  const [first] = Object.values(metrics);
  const head = make("tr", {}, make("th", {}, "On the held-out readers"), ...cells(first).map(([title]) => make("th", { scope: "col" }, title)));
  const rows = Object.entries(metrics).map(([ranker, lists]) => make("tr", {},
    make("th", { scope: "row" }, label(ranker)), ...cells(lists).map(([, value]) => make("td", {}, value.toFixed(3)))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

let typed;
byId("search").oninput = () => { clearTimeout(typed); typed = setTimeout(search, SEARCH_PAUSE); };
byId("clear").onclick = () => { change([]); byId("search").focus(); };
byId("unhide").onclick = () => { state.hidden = []; update(); byId("k").focus(); };
for (const id of ["k", "min-ratings", "exclude-seen"]) byId(id).onchange = update;
byId("reader-form").onsubmit = (event) => { event.preventDefault(); showReader(byId("reader-id").value.trim()); };

showModel().catch((error) => { byId("model").textContent = error.message; });
search();
change([]);
