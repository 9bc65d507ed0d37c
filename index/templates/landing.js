
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("choose");
  const status = document.getElementById("status");
  const versions = document.getElementById("version-list");
  const install = document.getElementById("install");
  const root = data.root || new URL(".", location.href).href;
  const bare = (version) => version.split("+")[0];
  // the version that was asked for; "" is whichever is recommended
  let wanted = "";

  const radios = (name) => [...form.querySelectorAll(`input[name="${name}"]`)];
  const chosen = (name) => radios(name).find((radio) => radio.checked).value;
  const choose = (name, value) => {
    const radio = radios(name).find((each) => each.value === value);
    if (radio) radio.checked = true;
  };
  const existing = (backend, system) => data.versions[backend][system] || [];
  const indexOf = (backend) => `${root}whl/${backend}/`;

  // as Python's string.Template has it, whose checked texts these are
  const fill = (text, values) =>
    text.replace(/\$(?:(\$)|(\w+)|\{(\w+)\})/g, (_, dollar, name, braced) =>
      dollar || values[name || braced]);

  const recommended = (backend, system) => {
    const all = existing(backend, system);
    return all.find((each) => each.yanked === null) || all[0];
  };

  const show = () => {
    const [system, backend, tool] = ["system", "backend", "tool"].map(chosen);
    const all = existing(backend, system);
    const best = recommended(backend, system);
    const shown = all.find((each) => each.version === wanted)
      || all.find((each) => bare(each.version) === bare(wanted)) || best;
    versions.replaceChildren(...all.map((each) => {
      const notes = [each === best && "recommended", each.yanked !== null && "taken back"];
      const said = notes.filter(Boolean).join(", ");
      const text = said ? `${each.version} (${said})` : each.version;
      const option = new Option(text, each.version, false, each === shown);
      if (each === best) option.dataset.best = "yes";
      return option;
    }));
    document.getElementById("version").hidden = all.length === 0;
    for (const radio of radios("backend")) {
      radio.disabled = !radio.checked && existing(radio.value, system).length === 0;
    }
    if (shown) write(backend, shown.version);
    for (const wheel of install.querySelectorAll("dl.wheel")) wheel.hidden = shown !== best;
    for (const note of install.querySelectorAll(".other")) {
      note.hidden = shown === best;
      note.lastElementChild.textContent =
        shown && shown.yanked !== null ? `It was taken back: ${shown.yanked || "no reason is given."}` : "";
    }
    return { system, backend, tool, shown };
  };

  const write = (backend, version) => {
    const values = {
      index: indexOf(backend),
      cpu_index: indexOf("cpu"),
      backend,
      version: bare(version),
      label: version.split("+")[1],
    };
    for (const part of install.querySelectorAll(`[data-backend="${CSS.escape(backend)}"] .tool`)) {
      const texts = data.tools[part.dataset.tool];
      part.querySelector(".version").textContent = version;
      for (const code of part.querySelectorAll("[data-step]")) {
        code.textContent = fill(texts[code.dataset.step], values);
      }
    }
  };

  const title = (name) =>
    radios(name).find((radio) => radio.checked).parentElement.querySelector("span").firstChild.textContent.trim();

  const changed = () => {
    const { system, backend, tool, shown } = show();
    const said = new URLSearchParams({ system, backend, tool });
    if (wanted && shown) said.set("version", shown.version);
    history.replaceState(null, "", `#${said}`);
    status.textContent = shown
      ? `${title("tool")}, ${shown.version}, ${title("system")}`
      : `There is no ${backend} wheel for ${title("system")}.`;
  };

  const remember = () => {
    const said = new URLSearchParams(location.hash.slice(1));
    for (const name of ["system", "backend", "tool"]) choose(name, said.get(name));
    wanted = said.get("version") || "";
    return said.has("system");
  };

  // what the browser says of the machine; false where that names no system that has wheels
  const guess = (architecture) => {
    const platform = (navigator.userAgentData || navigator).platform || "";
    const agent = navigator.userAgent;
    if (/android|iphone|ipad|cros/i.test(agent)) return;
    const os = /^win/i.test(platform) ? "windows" : /^mac/i.test(platform) ? "macos"
      : /^linux/i.test(platform) ? "linux" : "";
    // browsers call every Mac an Intel one; those that are not have been sold since 2020
    const arm = architecture ? architecture === "arm"
      : os === "macos" || /aarch64|arm/i.test(`${platform} ${agent}`);
    const radio = radios("system").find((each) =>
      each.dataset.os === os && (each.dataset.machine !== "x86_64") === arm);
    if (!radio) return;
    radio.checked = true;
    if (!recommended(chosen("backend"), radio.value)) {
      const other = radios("backend").find((each) => recommended(each.value, radio.value));
      choose("backend", other.value);
    }
    show();
  };

  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      return true;
    } catch {
      // there is no clipboard outside https and the loopback: the selection can still be copied
      getSelection().selectAllChildren(code);
      return document.execCommand("copy");
    }
  };

  for (const code of document.querySelectorAll("[data-copy]")) {
    const button = document.createElement("button");
    const label = document.createElement("span");
    const what = document.createElement("span");
    button.type = "button";
    label.textContent = "Copy";
    what.textContent = ` ${code.dataset.copy}`;
    what.className = "unseen";
    button.append(label, what);
    button.addEventListener("click", async () => {
      const done = await copy(code);
      label.textContent = done ? "Copied" : "Select";
      status.textContent = done ? `Copied ${code.dataset.copy}.` : "Not copied: it is selected, copy it with the keyboard.";
      setTimeout(() => { label.textContent = "Copy"; }, 2000);
    });
    const step = code.closest(".step");
    (step ? step.querySelector("p") : code.parentElement).append(button);
  }

  if (!data.root) {
    document.getElementById("no-root").hidden = true;
    for (const code of document.querySelectorAll(".address")) {
      code.textContent = code.closest("a").href.replace(/[^/]*$/, "");
    }
  }

  let touched = remember();
  show();
  if (!touched) {
    guess("");
    const hints = navigator.userAgentData && navigator.userAgentData.getHighEntropyValues;
    if (hints) {
      navigator.userAgentData.getHighEntropyValues(["architecture"]).then(
        (values) => { if (!touched) guess(values.architecture); }, () => {});
    }
  }
  form.addEventListener("change", (event) => {
    touched = true;
    if (event.target === versions) wanted = versions.selectedOptions[0].dataset.best ? "" : versions.value;
    changed();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    if (location.hash.includes("=") && remember()) show();
  });
})();
