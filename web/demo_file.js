// No module, so that it runs where the page was opened as a file, from which browsers load no modules: it says so.
if (location.protocol === "file:") {
  document.getElementById("status").textContent =
    "Opened from a file, this page cannot load its parts. Serve its folder: dlpack serve FOLDER, or python -m http.server " +
    "in it. A page for opening like this is NAME.html, of a build with --single-file-html.";
  document.getElementById("progress").hidden = true;
}
