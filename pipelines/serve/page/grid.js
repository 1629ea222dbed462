// Points by cells of a grid, so that the nearest one is found without looking at all.

const CELLS = 128; // a side; the points lie within [-1, 1]

export class Grid {
  /** @param places Float32Array of x, y pairs */
  constructor(places) {
    const n = places.length / 2;
    const cell = new Uint16Array(n);
    const starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < n; i++) {
      cell[i] = Grid.#cell(places[2 * i + 1]) * CELLS + Grid.#cell(places[2 * i]);
      starts[cell[i] + 1] += 1;
    }
    for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
    const next = starts.slice(0, -1);
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i++) order[next[cell[i]]++] = i;
    Object.assign(this, { places, starts, order });
  }

  static #cell(x) {
    return Math.min(CELLS - 1, Math.max(0, Math.floor(((x + 1) / 2) * CELLS)));
  }

  /** The nearest point within a radius that is `allowed`; -1 if there is none. */
  nearest(x, y, radius, allowed) {
    let best = -1;
    let least = radius * radius;
    const lastRow = Grid.#cell(y + radius);
    const lastColumn = Grid.#cell(x + radius);
    for (let row = Grid.#cell(y - radius); row <= lastRow; row++) {
      for (let column = Grid.#cell(x - radius); column <= lastColumn; column++) {
        const c = row * CELLS + column;
        for (let k = this.starts[c]; k < this.starts[c + 1]; k++) {
          const i = this.order[k];
          const distance = (this.places[2 * i] - x) ** 2 + (this.places[2 * i + 1] - y) ** 2;
          if (distance <= least && allowed(i)) {
            best = i;
            least = distance;
          }
        }
      }
    }
    return best;
  }
}
