"use strict";
// The page of a rating. It knows answers by their place only; texts are set as text, never as HTML.

const token = new URLSearchParams(location.search).get("token") || "";
const at = (id) => document.getElementById(id);
const drafts = new Map(); // number of a screen -> a comment that is not saved yet

let rater = "";
let shown = null; // the screen as the program sent it
let scores = []; // 1-5: a score for each answer, null where there is none yet
let current = 0; // 1-5: the answer that the number keys are for
let saving = Promise.resolve(); // a comment on its way; what comes after it waits, so that nothing overtakes it
let busy = false; // a question is under way; keys pressed meanwhile would be for a screen that is not there yet

async function ask(path, question) {
  let reply;
  try {
    reply = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify(question),
    });
  } catch {
    throw new Error("the program can't be reached, so this is not saved. Start tunesmith rate again and open its new link: all that was saved is still there.");
  }
  const content = await reply.json().catch(() => ({ error: `the program answered ${reply.status}` }));
  if (!reply.ok) throw new Error(content.error);
  return content;
}

async function alone(work) {
  if (busy) return;
  busy = true;
  await saving;
  await telling(work);
  busy = false;
}

async function telling(work) {
  try {
    await work();
    at("trouble").hidden = true;
  } catch (error) {
    at("trouble").textContent = `Not done: ${error.message}`;
    at("trouble").hidden = false;
    at("trouble").scrollIntoView({ block: "nearest" });
  }
}

const say = (words) => { at("said").textContent = words; };

function element(kind, attributes = {}, ...children) {
  const made = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children); // strings become text nodes
  return made;
}

function only(section) {
  for (const id of ["welcome", "screen", "finished"]) at(id).hidden = id !== section;
  at("votes").hidden = section !== "screen";
  at("progress").hidden = section === "welcome";
}

// ---- what is shown

function show(reply, words = "") {
  shown = reply;
  rater = reply.rater;
  at("bar").max = Math.max(reply.total, 1);
  at("bar").value = reply.done;
  at("progress-text").textContent = `${rater}: ${reply.done} of ${reply.total}`;
  if (reply.finished) return showFinished(words);
  only("screen");
  at("where").textContent = reply.scale === "pairs"
    ? `Comparison ${reply.number} of ${reply.total}: which answer is better?`
    : `Prompt ${reply.number} of ${reply.total}: how good is each answer?`;
  fill(at("prompt"), reply.prompt);
  at("reference-box").hidden = reply.reference === null;
  at("reference-box").open = false;
  fill(at("reference"), reply.reference || "");
  at("comment").value = drafts.get(reply.number) ?? (reply.vote ? reply.vote.comment : "");
  at("previous").disabled = reply.number <= 1;
  at("next").disabled = reply.number >= reply.total;
  scores = reply.scale === "1-5" && reply.vote ? [...reply.vote.verdict] : reply.answers.map(() => null);
  current = 0;
  at("answers").replaceChildren(...reply.answers.map(answerCard));
  at("choices").replaceChildren(...choiceButtons());
  mark();
  scrollTo(0, 0);
  at("where").focus({ preventScroll: true });
  say(`${words} ${reply.number} of ${reply.total}.${reply.vote ? " You have rated this one." : ""}`);
}

function showFinished(words) {
  only("finished");
  at("finished-text").textContent = shown.total
    ? `You have rated all ${shown.total}. Every vote is saved; this page can be closed.`
    : "There is nothing to rate: the models answer every prompt alike.";
  at("look-back").hidden = !shown.total;
  at("finished-title").focus({ preventScroll: true });
  say(`${words} All done.`);
}

function fill(place, text) {
  place.textContent = text.trim() ? text : "(empty)";
  place.classList.toggle("empty", !text.trim());
}

function answerCard(text, index) {
  const body = element("div", { class: "text", dir: "auto" });
  fill(body, text);
  const card = element("article", { class: "answer card", "aria-label": `Answer ${index + 1}` }, element("h3", {}, `Answer ${index + 1}`), body);
  if (shown.scale === "1-5") card.append(scoreButtons(index));
  return card;
}

function scoreButtons(index) {
  const group = element("div", { class: "scores", role: "group", "aria-label": `How good is answer ${index + 1}? 1 is worst, 5 is best` });
  for (let score = 1; score <= 5; score += 1) {
    const button = element("button", { type: "button", "data-answer": index, "data-score": score, "aria-label": `Answer ${index + 1}: ${score} of 5` }, String(score));
    button.addEventListener("click", () => setScore(index, score));
    group.append(button);
  }
  return group;
}

function choiceButtons() {
  if (shown.scale === "1-5") return [element("span", { class: "hint", id: "scale" }, "1 is worst, 5 is best")];
  const choices = [...shown.answers.keys()].map((index) => [index + 1, `Answer ${index + 1}`, String(index + 1)]);
  choices.splice(1, 0, [0, "Tie", "t"]);
  return choices.map(([verdict, label, key]) => {
    const button = element("button", { type: "button", "data-verdict": verdict }, `${label} `, element("kbd", {}, key));
    button.addEventListener("click", () => vote(verdict));
    return button;
  });
}

function mark() {
  const verdict = shown.scale === "pairs" && shown.vote ? shown.vote.verdict : null;
  for (const button of at("choices").querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.verdict) === verdict));
  for (const button of at("answers").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(scores[Number(button.dataset.answer)] === Number(button.dataset.score)));
  }
  [...at("answers").children].forEach((card, index) => {
    card.classList.toggle("chosen", verdict === index + 1);
    card.classList.toggle("current", shown.scale === "1-5" && index === current);
  });
}

// ---- what the rater does

function vote(verdict) {
  return alone(async () => {
    const { number } = shown;
    const reply = await ask("/vote", { rater, number, verdict, comment: at("comment").value });
    drafts.delete(number);
    at("comment").blur();
    show(reply, "Saved.");
  });
}

function setScore(index, score) {
  if (busy) return;
  scores[index] = score;
  const open = scores.indexOf(null);
  current = open < 0 ? index : open;
  mark();
  say(`Answer ${index + 1}: ${score} of 5.`);
  if (open < 0) vote(scores);
  else at("answers").children[current].scrollIntoView({ block: "nearest" });
}

function move(step) {
  const number = shown.number + step;
  if (number < 1 || number > shown.total) return;
  keepDraft();
  alone(async () => show(await ask("/screen", { rater, number })));
}

function moveAnswer(step) {
  current = Math.min(Math.max(current + step, 0), scores.length - 1);
  mark();
  at("answers").children[current].scrollIntoView({ block: "nearest" });
  say(`Answer ${current + 1}${scores[current] ? `, rated ${scores[current]}` : ""}.`);
}

function keepDraft() {
  if (!shown || shown.finished) return;
  const saved = shown.vote ? shown.vote.comment : "";
  if (at("comment").value !== saved) drafts.set(shown.number, at("comment").value);
}

// A comment on something that is rated already is saved when the field is left; one before that goes with the vote.
function leaveComment() {
  if (!shown || shown.finished || !shown.vote || at("comment").value === shown.vote.comment) return;
  const { number, vote: earlier } = shown;
  const comment = at("comment").value;
  saving = telling(async () => {
    await ask("/vote", { rater, number, verdict: earlier.verdict, comment });
    earlier.comment = comment;
    drafts.delete(number);
    say("Comment saved.");
  });
}

function begin(name) {
  return alone(async () => {
    const reply = await ask("/begin", { rater: name });
    drafts.clear();
    sessionStorage.setItem("rater", reply.rater);
    describeKeys(reply.scale);
    show(reply);
  });
}

function welcome() {
  only("welcome");
  at("name").value = sessionStorage.getItem("rater") || "";
  at("name").focus();
}

function describeKeys(scale) {
  const known = scale === "pairs"
    ? [["1", "answer 1 is better"], ["2", "answer 2 is better"], ["t", "tie: both are as good, or as bad"]]
    : [["1 … 5", "score of the marked answer, 5 is best"], ["↑ ↓", "mark another answer"]];
  const all = [...known, ["← →", "earlier, later"], ["c", "comment; Esc leaves it"], ["r", "show or hide the reference, where there is one"]];
  at("keys").replaceChildren(...all.flatMap(([key, words]) => [element("dt", {}, element("kbd", {}, key)), element("dd", {}, words)]));
}

const KEYS = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  c: () => at("comment").focus(),
  r: () => { if (!at("reference-box").hidden) at("reference-box").open = !at("reference-box").open; },
};
const PAIR_KEYS = { t: () => vote(0), 0: () => vote(0) };
const SCORE_KEYS = { ArrowUp: () => moveAnswer(-1), ArrowDown: () => moveAnswer(1) };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === at("comment")) {
    if (event.key === "Escape") at("comment").blur();
    return;
  }
  if (event.target instanceof HTMLInputElement || at("screen").hidden || event.repeat || busy) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = keyAction(key);
  if (!action) return;
  event.preventDefault();
  action();
}

function keyAction(key) {
  const number = /^[1-9]$/.test(key) ? Number(key) : 0;
  if (shown.scale === "pairs") return number >= 1 && number <= shown.answers.length ? () => vote(number) : PAIR_KEYS[key] || KEYS[key];
  return number >= 1 && number <= 5 ? () => setScore(current, number) : SCORE_KEYS[key] || KEYS[key];
}

document.addEventListener("keydown", onKey);
at("name-form").addEventListener("submit", (event) => { event.preventDefault(); begin(at("name").value); });
at("previous").addEventListener("click", () => move(-1));
at("next").addEventListener("click", () => move(1));
at("comment").addEventListener("blur", leaveComment);
at("look-back").addEventListener("click", () => alone(async () => show(await ask("/screen", { rater, number: 1 }))));
if (sessionStorage.getItem("rater")) begin(sessionStorage.getItem("rater")).then(() => { if (!shown) welcome(); });
else welcome();
