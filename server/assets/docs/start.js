// The choice of light or dark is the one made on the page; Swagger UI has its dark form under a class.
const dark = matchMedia("(prefers-color-scheme: dark)");
function colours() {
  let theme = "system";
  try {
    theme = localStorage.getItem("ocelli-theme") ?? theme;
  } catch { /* Storage is switched off: as the system says. */ }
  document.documentElement.dataset.theme = theme;
  document.documentElement.classList.toggle("dark-mode", theme === "dark" || (theme !== "light" && dark.matches));
}
colours();
dark.addEventListener("change", colours);

// `validatorUrl` would send the document to somebody else's server.
window.SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
});
