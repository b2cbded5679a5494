// Receives the webhooks of watcher: checks the signature, drops repeats, prints what happened.
//
//     npm install
//     WEBHOOK_SECRET=whsec_... node receiver.mjs
//
// Node.js 18 or newer. HOST (127.0.0.1) and PORT (8080) say where it listens; put a server with TLS in front of it.
// WEBHOOK_SECRET may hold two secrets, separated by a space, while you change from one to the next.

import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const LONGEST_BODY = 256 * 1024;
// Repeats come within four days. A real program keeps the ids in its database, in the transaction of its own work.
const MOST_IDS = 100_000;

const secrets = (process.env.WEBHOOK_SECRET ?? "").split(" ").filter(Boolean).map((secret) => new Webhook(secret));
if (!secrets.length) {
  console.error("WEBHOOK_SECRET is not set");
  process.exit(1);
}
const seen = new Set();

// Do your own work here, and let it finish before it returns. If it throws, the answer is a 500, and the event comes
// again.
function handle(event) {
  const { reason, ticket, note } = event.data;
  // The texts come from other people: JSON.stringify keeps them on one line.
  console.log(event.id, event.type, JSON.stringify([reason, ticket.id, ticket.title, note?.content ?? null]));
}

// Returns the document if one of the secrets signed it within the last five minutes.
function verified(body, headers) {
  for (const webhook of secrets) {
    try {
      return webhook.verify(body, headers);
    } catch {
      continue;
    }
  }
  return undefined;
}

// Returns the single events of a message, whatever its format.
function eventsIn(document, headers) {
  if (Array.isArray(document)) return document; // cloudevents-batch
  // cloudevents-binary: of the headers, only webhook-id is signed.
  if (!("specversion" in document)) {
    document = { id: headers["webhook-id"], type: headers["ce-type"] ?? "", data: document };
  }
  return document.data.events ?? [document]; // a digest, or a single event
}

async function read(request) {
  if (Number(request.headers["content-length"]) > LONGEST_BODY) return undefined;
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LONGEST_BODY) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function take(document, headers) {
  for (const event of eventsIn(document, headers)) {
    if (seen.has(event.id)) continue;
    handle(event);
    seen.add(event.id);
    if (seen.size > MOST_IDS) seen.delete(seen.values().next().value);
  }
}

// Answers 204 to what was taken, now or before; 400 to what is not from watcher; 413 to what is too long.
async function answer(request) {
  if (request.method !== "POST") return 405;
  const body = await read(request);
  if (body === undefined) return 413;
  const document = verified(body, request.headers);
  if (document === undefined) return 400;
  take(document, request.headers);
  return 204;
}

const server = createServer(async (request, response) => {
  let status = 500;
  try {
    status = await answer(request);
  } catch (error) {
    console.error(error);
  }
  // After an error, close: the rest of the request may not have been read.
  response.writeHead(status, status === 204 ? {} : { "Content-Length": 0, Connection: "close" }).end();
});
server.requestTimeout = 15_000;
server.listen(Number(process.env.PORT ?? 8080), process.env.HOST ?? "127.0.0.1", () => {
  const { address, port } = server.address();
  console.log(`listening on http://${address}:${port}/`);
});
