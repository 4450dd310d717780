// Starts Swagger UI on /api/docs/. Writes made from the page carry the session's CSRF token.

const { schema, csrf } = document.getElementById("api").dataset;

/** Adds the CSRF token to requests to this site. */
function withToken(request) {
  const own = new URL(request.url, location.href).origin === location.origin;
  if (own && !["GET", "HEAD"].includes(request.method ?? "GET")) request.headers["X-CSRFToken"] = csrf;
  return request;
}

window.SwaggerUIBundle({
  url: schema,
  domNode: document.getElementById("api"),
  presets: [window.SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  requestInterceptor: withToken,
});
