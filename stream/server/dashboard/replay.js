// The crops of one interval: onset, apex and offset side by side, and a slowed replay with the motion enlarged.
//
// Enlarging is linear Eulerian magnification (Wu et al., SIGGRAPH 2012) with the onset as the baseline: what differs
// from the onset, smoothed over 5x5 px so that noise is not enlarged too, is multiplied and added back.

const BASELINE_S = 0.12;

export async function decode(frames) {
  const images = await Promise.all(frames.map(async ({ timeS, jpeg }) => {
    const bytes = Uint8Array.from(atob(jpeg), (character) => character.charCodeAt(0));
    try {
      return { timeS, bitmap: await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })) };
    } catch {
      return null; // not an image: leave it out
    }
  }));
  return images.filter((image) => image !== null);
}

export function nearest(images, timeS) {
  return images.reduce((best, image) => (Math.abs(image.timeS - timeS) < Math.abs(best.timeS - timeS) ? image : best));
}

export function paint(canvas, bitmap) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
}

export class Replay {
  constructor(canvas, onTime) {
    this.canvas = canvas;
    this.onTime = onTime;
    this.playing = true;
    this.speed = 0.125;
    this.magnify = 6;
  }

  load(images, interval) {
    this.interval = interval;
    const { width, height } = images[0].bitmap;
    const scratch = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    this.canvas.width = width;
    this.canvas.height = height;
    this.frames = images.map(({ timeS, bitmap }) => {
      scratch.drawImage(bitmap, 0, 0);
      const { data } = scratch.getImageData(0, 0, width, height);
      const grey = new Float32Array(width * height);
      for (let i = 0; i < grey.length; i++) grey[i] = 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
      return { timeS, grey };
    });
    const around = this.frames.filter(({ timeS }) => Math.abs(timeS - interval.onset_s) <= BASELINE_S);
    const base = around.length ? around : [nearest(this.frames, interval.onset_s)];
    const baseline = new Float32Array(width * height);
    for (const { grey } of base) for (let i = 0; i < grey.length; i++) baseline[i] += grey[i] / base.length;
    for (const frame of this.frames) {
      const difference = frame.grey.map((value, i) => value - baseline[i]);
      frame.motion = blur(blur(difference, width, height), width, height);
    }
    this.timeS = this.frames[0].timeS;
    this.#run();
  }

  stop() {
    cancelAnimationFrame(this.request);
    this.frames = null;
  }

  #run() {
    cancelAnimationFrame(this.request);
    let then = performance.now();
    const step = (now) => {
      if (!this.frames) return;
      if (this.playing) this.timeS += ((now - then) / 1000) * this.speed;
      then = now;
      if (this.timeS > this.frames.at(-1).timeS) this.timeS = this.frames[0].timeS;
      this.#draw();
      this.request = requestAnimationFrame(step);
    };
    this.request = requestAnimationFrame(step);
  }

  // Between two frames both are blended, so that a slow replay does not stutter.
  #draw() {
    const { frames, timeS, magnify } = this;
    const after = Math.max(1, frames.findIndex((frame) => frame.timeS >= timeS));
    const a = frames[after - 1], b = frames[after] ?? a;
    const share = b.timeS > a.timeS ? Math.min(Math.max((timeS - a.timeS) / (b.timeS - a.timeS), 0), 1) : 0;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    for (let i = 0; i < a.grey.length; i++) {
      const value = (1 - share) * (a.grey[i] + (magnify - 1) * a.motion[i]) + share * (b.grey[i] + (magnify - 1) * b.motion[i]);
      image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = value;
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    this.onTime(timeS);
  }
}

function blur(values, width, height) {
  const rows = new Float32Array(values.length), out = new Float32Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      rows[i] = (values[x ? i - 1 : i] + values[i] + values[x < width - 1 ? i + 1 : i]) / 3;
    }
  }
  for (let i = 0; i < values.length; i++) {
    out[i] = (rows[i < width ? i : i - width] + rows[i] + rows[i + width < values.length ? i + width : i]) / 3;
  }
  return out;
}
