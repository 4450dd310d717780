/** Answers to requests: those of this application, and those of something between it and the browser. */

const HEADER = "X-FormEase"; // on every response of the application

/** Whether the application answered, and not a gateway, a firewall or the sign-in page of a network. */
export const isOurs = (answer) => answer.headers.has(HEADER);

export const isJson = (answer) => Boolean(answer.headers.get("Content-Type")?.includes("json"));

/** The JSON of an answer. Throws if it is not a successful answer of this application. */
export async function jsonOf(answer) {
  if (!answer.ok || !isOurs(answer) || !isJson(answer)) throw new Error(`${answer.status} ${answer.url}`);
  return answer.json();
}
