/* The map explorer: one for each result of the page.
 *
 * Python writes two JSON scripts, ID-data (report/explorer.py) and ID-plot (report/explorer_plot.py). Bokeh draws the
 * sheet; everything else is plain HTML, which can be read and used without a mouse. All text from users is set through
 * textContent.
 */
"use strict";

(() => {
  const MOST_TICKS = 12; // on an axis
  const PALEST = 0.4; // share of a category's color that is left at the smallest majority
  const WIDEST_CANVAS = 16384; // pixels that every browser allows
  const MOST_ROWS = 12; // shown of a table before "Show all"
  const MOST_MATCHES = 20; // shown of a search
  const STRIP_CELL = 56; // pixels of a node with an image

  const ARRAYS = { i4: Int32Array, f4: Float32Array };

  function unpack(packed) {
    if (!packed) return null;
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const values = new ARRAYS[packed.dtype](bytes.buffer);
    values.shape = packed.shape;
    return values;
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "text") made.textContent = value;
      else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key === "style") Object.assign(made.style, value);
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function number(value) {
    if (value === null || Number.isNaN(value)) return "none";
    if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
    return String(Number(value.toPrecision(4)));
  }

  const percent = (share) => (share >= 0.0995 || share === 0 ? `${Math.round(share * 100)} %` : `${(share * 100).toPrecision(2)} %`);

  function mix(color, share) {
    // Mixes the color with white; the share is that of the color.
    const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    return "#" + parts.map((part) => Math.round(255 - share * (255 - part)).toString(16).padStart(2, "0")).join("");
  }

  class Explorer {
    constructor(root, data, palettes) {
      this.root = root;
      this.data = data;
      this.palettes = palettes;
      this.hits = unpack(data.hits);
      this.cluster = unpack(data.cluster);
      this.uMatrix = unpack(data.u_matrix);
      this.neighbors = unpack(data.neighbors);
      this.colorings = new Map();
      if (data.classes) this.readClasses(data.classes);
      if (data.features) {
        const { codes, mean, deviation, ...rest } = data.features;
        this.features = { ...rest, codes: unpack(codes), mean: unpack(mean), deviation: unpack(deviation) };
      }
      if (data.samples) this.readSamples(data.samples);
      if (data.transitions) {
        this.transitions = {
          source: data.transitions.source,
          target: unpack(data.transitions.target),
          probability: unpack(data.transitions.probability),
        };
      }
      this.paths = data.paths.map((path) => ({ name: path.name, node: unpack(path.node) }));
      this.path = null;
    }

    readClasses({ names, counts }) {
      const rows = unpack(counts);
      this.classes = { names, of: Array.from({ length: this.data.nodes }, () => []) };
      for (let at = 0; at < rows.length; at += 3) this.classes.of[rows[at]].push([rows[at + 1], rows[at + 2]]);
      for (const counted of this.classes.of) counted.sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    }

    readSamples(samples) {
      this.samples = {
        ...samples,
        node: unpack(samples.node),
        distance: unpack(samples.distance),
        nearest: unpack(samples.nearest),
        label: samples.labels ? unpack(samples.labels.number) : null,
        split: samples.splits ? unpack(samples.splits.number) : null,
      };
      this.placesOf = new Map(); // the samples of each id, which need not be unique
      samples.ids.forEach((id, at) => {
        if (this.placesOf.has(id)) this.placesOf.get(id).push(at);
        else this.placesOf.set(id, [at]);
      });
    }

    async start() {
      const plot = JSON.parse(document.getElementById(`${this.root.id}-plot`).textContent);
      const target = this.find(".sheet");
      await Bokeh.embed.embed_item(plot, target);
      this.document = Bokeh.documents[Bokeh.documents.length - 1];
      this.plot = this.model("sheet");
      this.home = ["x_range", "y_range"].map((name) => [this.plot[name].start, this.plot[name].end]);
      // The second of two quick taps is a doubletap, even if it is on another node.
      for (const name of ["tap", "doubletap"]) this.plot.on_event(name, ({ x, y }) => this.selectAt(x, y));
      new ResizeObserver(() => this.fit()).observe(target);
      this.fit();
      this.collectColorings();
      this.buildControls();
      this.thinTicks();
      const map = this.find(".map");
      map.addEventListener("keydown", (event) => this.press(event));
      this.recolor();
      this.select(this.hits ? this.hits.indexOf(Math.max(...this.hits)) : 0, { quietly: true });
      this.root.dataset.ready = "yes";
    }

    fit() {
      // Sets the height for which cells have the same shape at every width.
      const [[left, right], [bottom, top]] = this.home;
      const { min_border_left: l, min_border_right: r, min_border_top: t, min_border_bottom: b } = this.plot;
      const width = Math.max(this.find(".sheet").clientWidth - l - r, 1);
      this.plot.height = Math.round((width * (top - bottom)) / (right - left)) + t + b;
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    model(name) {
      return this.document.get_model_by_name(name);
    }

    setSource(name, columns) {
      const source = this.model(name);
      source.data = source.data instanceof Map ? new Map(Object.entries(columns)) : columns;
    }

    // Colors.

    collectColorings() {
      const { noun } = this.data;
      if (this.data.images) this.colorings.set("images", { title: "images", kind: "images" });
      if (this.hits) {
        const values = Float32Array.from(this.hits, (count) => count || NaN);
        this.colorings.set("hits", { title: "hits", kind: "number", values, what: `${this.data.hits_of} of each ${noun}; gray: none` });
      }
      if (this.uMatrix) {
        this.colorings.set("u-matrix", { title: "U-matrix", kind: "number", scale: "distances", values: this.uMatrix, what: `mean ${this.data.u_matrix_of} to the neighbors: high values mark borders` });
      }
      if (this.classes) {
        const best = this.classes.of.map((counted) => (counted.length ? counted[0][0] : -1));
        const share = this.classes.of.map((counted) => (counted.length ? counted[0][1] / counted.reduce((sum, [, count]) => sum + count, 0) : 0));
        this.colorings.set("class", { title: "class", kind: "category", values: best, names: this.classes.names, share, what: `most frequent class of the ${this.data.hits_of}; paler: a smaller majority; gray: none` });
      }
      if (this.cluster) {
        const names = Array.from({ length: Math.max(...this.cluster) + 1 }, (_, at) => String(at));
        this.colorings.set("cluster", { title: "cluster", kind: "category", values: this.cluster, names, what: `cluster of each ${noun}` });
      }
      if (this.features) {
        this.features.names.forEach((name, at) => {
          this.colorings.set(`feature ${at}`, { title: name, kind: "number", feature: true, values: this.plane(at), what: `${name}, in the units of the data` });
        });
      }
    }

    plane(feature) {
      const { nodes } = this.data;
      return this.features.codes.subarray(feature * nodes, (feature + 1) * nodes);
    }

    recolor() {
      const coloring = this.colorings.get(this.find(".color-by").value);
      const { nodes } = this.data;
      const legend = this.find(".legend");
      const isImages = coloring && coloring.kind === "images";
      let colors = new Array(nodes).fill(isImages ? "#ffffff" : this.palettes.no_value);
      let texts = new Array(nodes).fill("");
      legend.replaceChildren();
      if (coloring && coloring.kind === "number") {
        let low = Infinity;
        let high = -Infinity;
        for (const value of coloring.values) {
          if (value < low) low = value;
          if (value > high) high = value;
        }
        if (low > high) [low, high] = [NaN, NaN]; // no node has a value
        const sequential = this.palettes[coloring.scale ?? "values"];
        const scale = high > low ? (sequential.length - 1) / (high - low) : 0;
        colors = Array.from(coloring.values, (value) => (Number.isNaN(value) ? this.palettes.no_value : sequential[Math.round((value - low) * scale)]));
        texts = Array.from(coloring.values, number);
        const gradient = `linear-gradient(to right, ${sequential.filter((_, at) => at % 15 === 0).join(", ")})`;
        legend.append(
          element("span", { text: number(low) }),
          element("span", { class: "gradient", style: { backgroundImage: gradient }, "aria-hidden": "true" }),
          element("span", { text: number(high) }),
        );
      } else if (coloring && coloring.kind === "category") {
        const color = this.categoryColors(coloring);
        colors = Array.from(coloring.values, (value, at) => (value < 0 ? this.palettes.no_value : mix(color(value), coloring.share ? PALEST + (1 - PALEST) * coloring.share[at] : 1)));
        texts = Array.from(coloring.values, (value) => (value < 0 ? "none" : coloring.names[value]));
        const occurring = [...new Set(coloring.values)].filter((value) => value >= 0).sort((a, b) => a - b);
        const list = element("ul", { class: "keys" });
        const shown = occurring.filter((value) => color(value) !== this.palettes.other);
        for (const value of shown) {
          list.append(element("li", {}, element("span", { class: "swatch", style: { background: color(value) }, "aria-hidden": "true" }), coloring.names[value]));
        }
        if (shown.length < occurring.length) {
          list.append(element("li", {}, element("span", { class: "swatch", style: { background: this.palettes.other }, "aria-hidden": "true" }), `${occurring.length - shown.length} others`));
        }
        legend.append(list);
      }
      const tooltips = texts.map((text, node) => {
        const hits = this.hits ? `${this.hits[node]} ${this.data.hits_of}` : "";
        return [hits, text === "" || coloring.title === "hits" ? "" : `${coloring.title}: ${text}`].filter(Boolean).join("; ");
      });
      const source = this.model("nodes");
      const column = (name) => (source.data instanceof Map ? source.data.get(name) : source.data[name]);
      const kept = Object.fromEntries(["x", "y", "node", "row", "column", "q", "r"].map((name) => [name, column(name)]));
      this.setSource("nodes", { ...kept, color: colors, text: tooltips });
      this.showImages(isImages);
      this.find(".meaning").textContent = coloring ? (coloring.what || this.meaningOfImages()) : "";
    }

    meaningOfImages() {
      const { noun } = this.data;
      return noun === "category" ? "one sample of each category" : `what each ${noun} stands for`;
    }

    categoryColors({ values, names }) {
      const { categorical, other } = this.palettes;
      if (names.length <= categorical.length) return (value) => categorical[value];
      // If there are too many, the most frequent ones have colors of their own.
      const count = new Array(names.length).fill(0);
      for (const value of values) if (value >= 0) count[value] += 1;
      const ranked = count.map((_, value) => value).sort((a, b) => count[b] - count[a] || a - b);
      const rank = new Map(ranked.map((value, at) => [value, at]));
      return (value) => categorical[rank.get(value)] ?? other;
    }

    async showImages(shown) {
      if (!shown) {
        this.setSource("strips", { url: [], x: [], y: [], w: [], h: [] });
        return;
      }
      this.strips ??= await this.cutStrips();
      if (this.find(".color-by").value === "images") this.setSource("strips", this.strips);
    }

    async cutStrips() {
      // A strip for each row of nodes, because the odd rows of hexagons are shifted by half a node.
      const { images, rows, cols, nodes } = this.data;
      const sheet = await loadImage(blobUrl(images));
      const columns = { url: [], x: [], y: [], w: [], h: [] };
      const { width, height } = images;
      const spacing = this.data.topology === "hexagonal" ? Math.sqrt(3) / 2 : 1;
      // Each image fills its cell as far as its shape allows, except for a seam. Pixels that are enlarged here stay sharp.
      const side = Math.min(STRIP_CELL, Math.floor(WIDEST_CANVAS / cols));
      const cell = { width: side, height: Math.round(side * spacing) };
      const scale = (0.96 * Math.min(cell.width / width, cell.height / height));
      const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
      for (let row = 0; row < rows; row++) {
        const count = Math.min(cols, nodes - row * cols);
        const strip = document.createElement("canvas");
        strip.width = cell.width * count;
        strip.height = cell.height;
        const context = strip.getContext("2d");
        context.imageSmoothingEnabled = scale < 1;
        for (let at = 0; at < count; at++) {
          const image = row * cols + at;
          const [left, top] = [(image % images.per_row) * width, Math.floor(image / images.per_row) * height];
          const [x, y] = [at * cell.width + (cell.width - wide) / 2, (cell.height - high) / 2];
          context.drawImage(sheet, left, top, width, height, x, y, wide, high);
        }
        columns.url.push(strip.toDataURL());
        columns.x.push(-0.5 + (this.data.topology === "hexagonal" && row % 2 ? 0.5 : 0));
        columns.y.push((0.5 - row) * spacing);
        columns.w.push(count);
        columns.h.push(spacing);
      }
      return columns;
    }

    // Controls.

    buildControls() {
      const select = this.find(".color-by");
      const group = element("optgroup", { label: "features" });
      for (const [key, { title, feature }] of this.colorings) {
        (feature ? group : select).append(element("option", { value: key, text: title }));
      }
      if (group.children.length) select.append(group);
      select.addEventListener("change", () => this.recolor());
      this.find(".zoom-in").addEventListener("click", () => this.zoom(0.6));
      this.find(".zoom-out").addEventListener("click", () => this.zoom(1 / 0.6));
      this.find(".zoom-home").addEventListener("click", () => this.zoom(null));
      const search = this.find(".search");
      if (this.samples) search.addEventListener("submit", (event) => this.search(event));
      else search.hidden = true;
      const series = this.find(".series");
      if (this.paths.length) this.buildSeries(series);
      else series.hidden = true;
    }

    zoom(factor) {
      const { x_range: x, y_range: y } = this.plot;
      let [[left, right], [bottom, top]] = this.home;
      if (factor !== null) {
        const whole = right - left;
        const least = Math.min(3, whole); // a node and its neighbors
        const width = Math.min(Math.max((x.end - x.start) * factor, least), whole);
        const height = (width * (top - bottom)) / whole;
        const [atX, atY] = this.place(this.node);
        left = Math.min(Math.max(atX - width / 2, left), right - width);
        bottom = Math.min(Math.max(atY - height / 2, bottom), top - height);
        [right, top] = [left + width, bottom + height];
      }
      x.setv({ start: left, end: right });
      y.setv({ start: bottom, end: top });
      this.thinTicks();
      const isZoomed = right - left < 0.999 * (this.home[0][1] - this.home[0][0]);
      this.model("pan").active = isZoomed;
    }

    thinTicks() {
      // Numbers as many rows and columns as there is room for.
      for (const [name, range, of] of [["columns", this.plot.x_range, this.data.cols], ["rows", this.plot.y_range, this.data.rows]]) {
        const axis = this.model(name);
        if (!axis) continue; // a sheet that is no map
        const places = Array.from({ length: of }, (_, at) => (name === "columns" ? this.place(at)[0] : this.place(at * this.data.cols)[1]));
        const shown = places.filter((place) => place >= range.start && place <= range.end).length;
        let step = 1;
        for (let at = 1; shown / step > MOST_TICKS; at++) step = [1, 2, 5][at % 3] * 10 ** Math.floor(at / 3);
        axis.ticker.ticks = places.filter((_, at) => at % step === 0);
      }
    }

    place(node) {
      const { cols, topology } = this.data;
      const [row, column] = [Math.floor(node / cols), node % cols];
      return topology === "hexagonal" ? [column + (row % 2) / 2, (-row * Math.sqrt(3)) / 2] : [column, -row];
    }

    selectAt(x, y) {
      let best = -1;
      let least = 0.51; // a corner of a square cell is at 0.5
      for (let node = 0; node < this.data.nodes; node++) {
        const [atX, atY] = this.place(node);
        const distance = (atX - x) ** 2 + (atY - y) ** 2;
        if (distance < least) [best, least] = [node, distance];
      }
      if (best >= 0) this.select(best);
    }

    press(event) {
      const { rows, cols, nodes, periodic } = this.data;
      let [row, column] = [Math.floor(this.node / cols), this.node % cols];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "ArrowUp") row -= 1;
      else if (event.key === "ArrowDown") row += 1;
      else if (event.key === "ArrowLeft") column -= 1;
      else if (event.key === "ArrowRight") column += 1;
      else if (event.key === "Home") column = 0;
      else if (event.key === "End") column = cols - 1;
      else if (event.key === "PageUp") row = 0;
      else if (event.key === "PageDown") row = rows - 1;
      else if (event.key === "Enter") {
        this.find(".details").focus();
        event.preventDefault();
        return;
      } else return;
      event.preventDefault();
      const wrap = (value, size) => (periodic ? (value + size) % size : Math.min(Math.max(value, 0), size - 1));
      this.select(Math.min(wrap(row, rows) * cols + wrap(column, cols), nodes - 1));
    }

    // The selected node.

    select(node, { quietly = false } = {}) {
      this.node = node;
      const { cols } = this.data;
      const [row, column] = [Math.floor(node / cols), node % cols];
      const [x, y] = this.place(node);
      this.setSource("cursor", { x: [x], y: [y], q: [column - Math.floor(row / 2)], r: [row] });
      const { start, end } = this.plot.x_range;
      if (x < start || x > end || y < this.plot.y_range.start || y > this.plot.y_range.end) this.zoom(1);
      this.root.dataset.node = node;
      this.showDetails(node, row, column);
      if (!quietly) this.announce(this.summary(node));
    }

    summary(node) {
      const parts = [this.name(node)];
      if (this.hits) parts.push(`${this.hits[node]} ${this.data.hits_of}`);
      const counted = this.classes ? this.classes.of[node] : [];
      if (counted.length) parts.push(`class ${this.classes.names[counted[0][0]]}`);
      if (this.cluster && this.cluster[node] >= 0) parts.push(`cluster ${this.cluster[node]}`);
      return parts.join(", ");
    }

    name(node) {
      const { noun, cols, is_map } = this.data;
      const place = is_map ? `, row ${Math.floor(node / cols)}, column ${node % cols}` : "";
      return `${noun[0].toUpperCase()}${noun.slice(1)} ${node}${place}`;
    }

    announce(text) {
      this.find(".announcement").textContent = text;
    }

    showDetails(node) {
      const details = this.find(".details");
      const facts = element("dl", { class: "facts" });
      const fact = (title, text) => facts.append(element("dt", { text: title }), element("dd", { text }));
      if (this.hits) {
        const total = this.hits.reduce((sum, value) => sum + value, 0);
        fact(this.data.hits_of, `${this.hits[node]}${total ? ` (${percent(this.hits[node] / total)} of all)` : ""}`);
      }
      if (this.cluster) fact("cluster", this.cluster[node] < 0 ? "none" : String(this.cluster[node]));
      if (this.uMatrix) fact("mean distance to neighbors", `${number(this.uMatrix[node])} (${this.data.u_matrix_of})`);
      details.replaceChildren(
        element("h3", { class: "node-name", text: this.name(node) }),
        facts,
        ...[
          this.prototypeImage(node),
          this.classTable(node),
          this.nearestTable(node),
          this.profileTable(node),
          this.neighborList(node),
          this.transitionTable(node),
        ].filter((part) => part !== null),
      );
    }

    prototypeImage(node) {
      if (!this.data.images) return null;
      const caption = element("figcaption", { text: this.data.noun === "category" ? "a sample of this category" : `what this ${this.data.noun} stands for` });
      return element("figure", { class: "prototype" }, sprite(this.data.images, node, 120, `Image of ${this.name(node)}`), caption);
    }

    classTable(node) {
      if (!this.classes) return null;
      const counted = this.classes.of[node];
      const total = counted.reduce((sum, [, count]) => sum + count, 0);
      const rows = counted.map(([name, count]) => [this.classes.names[name], String(count), bar(count / total, percent(count / total))]);
      return table("classes", "Classes", ["class", "count", "share"], rows, `no ${this.data.hits_of} with a label`);
    }

    nearestTable(node) {
      if (!this.samples) return null;
      const { nearest, ids, distance, label, labels, split, splits, images, what, key, measure } = this.samples;
      const each = nearest.shape[1];
      const withImages = images ? images.count / this.data.nodes : 0;
      const rows = [];
      for (let rank = 0; rank < each; rank++) {
        const at = nearest[node * each + rank];
        if (at < 0) break;
        const cells = [ids[at], number(distance[at])];
        if (label) cells.push(labels.names[label[at]]);
        if (split) cells.push(splits.names[split[at]]);
        if (withImages) cells.push(rank < withImages ? sprite(images, node * withImages + rank, 40, `${what} ${ids[at]}`) : "");
        rows.push(cells);
      }
      const head = [key, measure, ...(label ? ["class"] : []), ...(split ? ["split"] : []), ...(withImages ? ["image"] : [])];
      return table("nearest", `Nearest ${what}s`, head, rows, `no ${what} belongs to this ${this.data.noun}`);
    }

    profileTable(node) {
      if (!this.features) return null;
      const { names, mean, deviation, total } = this.features;
      const title = total > names.length ? `Features (the ${names.length} of ${total} that vary most over the map)` : "Features";
      if (!mean) {
        const values = names.map((name, at) => [name, number(this.plane(at)[node])]);
        return table("profile", title, ["feature", "value"], values, "none");
      }
      const rows = names.map((name, at) => {
        const value = this.plane(at)[node];
        const z = deviation[at] > 0 ? (value - mean[at]) / deviation[at] : 0;
        return { cells: [name, number(value), number(mean[at]), deviationBar(z)], size: Math.abs(z) };
      });
      rows.sort((a, b) => b.size - a.size);
      return table("profile", title, ["feature", "value", "data mean", "difference in standard deviations"], rows.map((row) => row.cells), "none");
    }

    neighborList(node) {
      if (!this.neighbors) return null;
      const slots = this.neighbors.shape[1];
      if (this.neighbors.subarray(node * slots, (node + 1) * slots).every((neighbor) => neighbor < 0)) return null;
      const list = element("ul", { class: "neighbors" });
      for (let slot = 0; slot < slots; slot++) {
        const neighbor = this.neighbors[node * slots + slot];
        if (neighbor >= 0) list.append(element("li", {}, this.nodeButton(neighbor)));
      }
      return element("section", { class: "neighbor-part" }, element("h4", { text: "Neighbors" }), list);
    }

    transitionTable(node) {
      if (!this.transitions) return null;
      const { target, probability, source } = this.transitions;
      const each = target.shape[1];
      const rows = [];
      for (let rank = 0; rank < each; rank++) {
        const share = probability[node * each + rank];
        if (share > 0) rows.push([this.nodeButton(target[node * each + rank]), bar(share, percent(share))]);
      }
      const part = table("transitions", "Where series go next", ["to", "probability"], rows, `no series continues from this ${this.data.noun}`);
      part.append(element("p", { class: "hint", text: source }));
      return part;
    }

    nodeButton(node) {
      const { noun, is_map, cols } = this.data;
      const label = is_map ? `${noun} ${node} (${Math.floor(node / cols)}, ${node % cols})` : `${noun} ${node}`;
      return element("button", { type: "button", class: "to-node", text: label, onclick: () => this.select(node) });
    }

    // Samples and series.

    search(event) {
      event.preventDefault();
      const text = this.find(".search input").value.trim();
      const result = this.find(".search-result");
      const { what, key, ids } = this.samples;
      const exact = this.placesOf.get(text) ?? [];
      if (text === "") result.replaceChildren(`Enter the ${key} of a ${what}.`);
      else if (exact.length === 1) this.showFound(exact[0]);
      else {
        const matches = exact.length ? exact : ids.flatMap((id, at) => (id.toLowerCase().includes(text.toLowerCase()) ? [at] : []));
        const list = matches.slice(0, MOST_MATCHES).map((at) =>
          element("button", { type: "button", class: "match", text: this.withSplit(exact.length ? this.name(this.samples.node[at]) : ids[at], at), onclick: () => this.showFound(at) }),
        );
        const more = matches.length > MOST_MATCHES ? `, the first ${MOST_MATCHES} of them` : "";
        let sentence = `No ${what} is called “${text}”${this.amongHowMany()}.`;
        if (exact.length) sentence = `${exact.length} ${what}s are called “${text}”${more}: `;
        else if (matches.length) sentence = `${sentence.slice(0, -1)}; ${matches.length} contain${matches.length === 1 ? "s" : ""} it${more}: `;
        result.replaceChildren(sentence, ...list);
      }
    }

    withSplit(text, at) {
      const { split, splits } = this.samples;
      return split ? `${text} (${splits.names[split[at]]})` : text;
    }

    amongHowMany() {
      // The page holds only some of very many samples.
      const { ids, total, what } = this.samples;
      return ids.length < total ? ` among the ${ids.length} of ${total} ${what}s that can be found here` : "";
    }

    showFound(at) {
      const { what, ids, node, distance, measure, label, labels, split, splits } = this.samples;
      const classText = label ? `, class ${labels.names[label[at]]}` : "";
      const splitText = split ? `, split ${splits.names[split[at]]}` : "";
      this.find(".search-result").replaceChildren(
        `${what[0].toUpperCase()}${what.slice(1)} ${ids[at]} is in ${this.data.noun} ${node[at]}, ${measure} ${number(distance[at])}${classText}${splitText}.`,
      );
      this.select(node[at], { quietly: true });
    }

    buildSeries(series) {
      const select = series.querySelector("select");
      this.paths.forEach((path, at) => select.append(element("option", { value: at, text: path.name })));
      const frame = series.querySelector("input");
      select.addEventListener("change", () => {
        this.path = select.value === "" ? null : this.paths[Number(select.value)];
        frame.disabled = this.path === null;
        frame.max = this.path === null ? 0 : this.path.node.length - 1;
        frame.value = 0;
        this.showPath();
        if (this.path) this.showFrame(0);
        else series.querySelector("output").textContent = "";
      });
      frame.addEventListener("input", () => this.showFrame(Number(frame.value)));
    }

    showPath() {
      const lines = { x0: [], y0: [], x1: [], y1: [], color: [] };
      if (this.path) {
        const { time } = this.palettes;
        const { node } = this.path;
        const color = (at) => time[Math.round((at * (time.length - 1)) / Math.max(node.length - 1, 1))];
        for (let at = 0; at + 1 < node.length; at++) {
          if (node[at] === node[at + 1]) continue;
          const [from, to] = [this.place(node[at]), this.place(node[at + 1])];
          const [shiftX, shiftY] = this.wrapShift(node[at], node[at + 1]);
          this.addLine(lines, from, [to[0] + shiftX, to[1] + shiftY], color(at));
          if (shiftX || shiftY) this.addLine(lines, [from[0] - shiftX, from[1] - shiftY], to, color(at));
        }
      }
      this.setSource("path", lines);
      if (!this.path) this.setSource("stops", { x: [], y: [], color: [], size: [] });
    }

    addLine(lines, from, to, color) {
      lines.x0.push(from[0]);
      lines.y0.push(from[1]);
      lines.x1.push(to[0]);
      lines.y1.push(to[1]);
      lines.color.push(color);
    }

    wrapShift(origin, target) {
      // The shift of the target if the shortest path crosses the edge of a periodic map.
      const { rows, cols, topology, periodic } = this.data;
      if (!periodic) return [0, 0];
      const hexagonal = topology === "hexagonal";
      const [row, column] = [Math.floor(origin / cols), origin % cols];
      const [toRow, toColumn] = [Math.floor(target / cols), target % cols];
      const shift = hexagonal ? ((toRow % 2) - (row % 2)) / 2 : 0;
      // Of two paths of equal length, take the one that crosses no edge: a half is rounded to 0.
      const turns = (value) => Math.sign(value) * Math.ceil(Math.abs(value) - 0.5);
      const around = [turns((toColumn - column + shift) / cols), turns((toRow - row) / rows)];
      return [-around[0] * cols, around[1] * rows * (hexagonal ? Math.sqrt(3) / 2 : 1)];
    }

    showFrame(frame) {
      const { node } = this.path;
      const { time } = this.palettes;
      const [start, now, end] = [0, frame, node.length - 1].map((at) => this.place(node[at]));
      this.setSource("stops", {
        x: [start[0], end[0], now[0]],
        y: [start[1], end[1], now[1]],
        color: [time[0], time[time.length - 1], "white"],
        size: [10, 10, 15],
      });
      this.find(".series output").textContent = `frame ${frame} (of 0 to ${node.length - 1}): ${this.data.noun} ${node[frame]}; the path goes from dark to light`;
      this.select(node[frame], { quietly: true });
    }
  }

  function table(name, title, head, rows, empty) {
    const section = element("section", { class: `table-part ${name}` }, element("h4", { text: title }));
    if (!rows.length) {
      section.append(element("p", { class: "hint", text: empty }));
      return section;
    }
    const body = element("tbody");
    const row = (cells) => element("tr", {}, ...cells.map((cell, at) => element(at ? "td" : "th", at ? { class: "value" } : { scope: "row" }, cell)));
    body.append(...rows.slice(0, MOST_ROWS).map(row));
    const columns = element("tr", {}, ...head.map((text) => element("th", { scope: "col", text })));
    section.append(element("table", {}, element("thead", {}, columns), body));
    if (rows.length > MOST_ROWS) {
      const button = element("button", { type: "button", class: "show-all", text: `Show all ${rows.length}` });
      button.addEventListener("click", () => {
        body.append(...rows.slice(MOST_ROWS).map(row));
        button.remove();
      });
      section.append(button);
    }
    return section;
  }

  function bar(share, text) {
    const filled = element("span", { class: "bar", style: { width: `${Math.max(share * 6, 0.1)}em` }, "aria-hidden": "true" });
    return element("span", { class: "bar-cell" }, filled, text);
  }

  function deviationBar(z) {
    const width = (Math.min(Math.abs(z), 4) * 2.5) / 4; // em: the bar's place is twice as wide
    const filled = element("span", { class: z < 0 ? "below" : "above", style: { width: `${width}em` } });
    const space = element("span", { class: "deviation", "aria-hidden": "true" }, filled);
    return element("span", { class: "bar-cell" }, space, `${Math.abs(z) < 0.005 ? "" : z < 0 ? "−" : "+"}${Math.abs(z).toFixed(2)}`);
  }

  function sprite(sheet, at, size, label) {
    const { width, height, per_row: perRow, count } = sheet;
    const scale = size / Math.max(width, height);
    const rows = Math.ceil(count / perRow);
    return element("span", {
      class: "sprite",
      role: "img",
      "aria-label": label,
      style: {
        width: `${width * scale}px`,
        height: `${height * scale}px`,
        backgroundImage: `url(${blobUrl(sheet)})`,
        backgroundSize: `${perRow * width * scale}px ${rows * height * scale}px`,
        backgroundPosition: `${-(at % perRow) * width * scale}px ${-Math.floor(at / perRow) * height * scale}px`,
      },
    });
  }

  function blobUrl(sheet) {
    // A blob's URL is short: each sprite's style names it, and styles that hold megabytes are slow.
    if (!sheet.blob) {
      const text = atob(sheet.url.slice(sheet.url.indexOf(",") + 1));
      const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
      sheet.blob = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    }
    return sheet.blob;
  }

  function loadImage(url) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => resolve(image);
      image.onerror = () => reject(new Error("the images of the page are damaged"));
      image.src = url;
    });
  }

  async function start() {
    const palettes = document.getElementById("palettes");
    if (!palettes) return;
    const colors = JSON.parse(palettes.textContent);
    for (const root of document.querySelectorAll(".explorer")) {
      const data = JSON.parse(document.getElementById(`${root.id}-data`).textContent);
      await new Explorer(root, data, colors).start();
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
