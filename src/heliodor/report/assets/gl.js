"use strict";
// Drawing with WebGL 2: spheres as discs that know their depth, sticks, lines, ribbons. Parallel projection.
const molecularGL = (() => {
  const WIDTH = 1024;
  // eye space: z towards the viewer; depth and haze follow from z over the size of the scene
  const COMMON = `#version 300 es
precision highp float;
uniform sampler2D places; uniform mat3 turn; uniform vec2 scale; uniform vec2 shift; uniform float depth;
vec3 place(int k) { return texelFetch(places, ivec2(k % ${WIDTH}, k / ${WIDTH}), 0).xyz; }
vec4 projected(vec3 eye) { return vec4((eye.xy + shift) * scale, -eye.z / depth, 1.0); }`;
  const SHADE = `#version 300 es
precision highp float;
uniform float haze; uniform float depth; out vec4 result;
void shade(vec3 colour, vec3 normal, float z, float gloss) {
  vec3 light = normalize(vec3(-0.35, 0.5, 0.8));
  float lit = 0.42 + 0.58 * max(dot(normal, light), 0.0);
  float shine = gloss * pow(max(dot(reflect(-light, normal), vec3(0.0, 0.0, 1.0)), 0.0), 24.0);
  float rim = 0.72 + 0.28 * smoothstep(0.0, 0.5, normal.z);
  float alpha = mix(0.3, 1.0, smoothstep(-haze, 0.35 * haze, z));
  result = vec4(min(colour * lit * rim + shine, 1.0) * alpha, alpha);
}`;
  const PROGRAMS = {
    sphere: [`${COMMON}
in vec2 corner; in float index; in float radius; in vec3 colour;
out vec2 disc; out vec3 tint; out float middle; out float size;
void main() {
  vec3 eye = turn * place(int(index));
  disc = corner; tint = colour; middle = eye.z; size = radius;
  gl_Position = projected(eye + vec3(corner * radius, 0.0));
}`, `${SHADE}
in vec2 disc; in vec3 tint; in float middle; in float size;
void main() {
  float d = dot(disc, disc);
  if (d > 1.0) discard;
  vec3 normal = vec3(disc, sqrt(1.0 - d));
  float z = middle + size * normal.z;
  gl_FragDepth = 0.5 - 0.5 * z / depth;
  shade(tint, normal, z, 0.18);
}`],
    stick: [`${COMMON}
in vec3 shape; in vec2 ends; in float radius; in vec3 colour;
out vec3 tint; out vec3 normal; out float z;
void main() {
  vec3 a = turn * place(int(ends.x)), b = turn * place(int(ends.y));
  vec3 along = b - a;
  float far = length(along);
  along /= max(far, 1e-4);
  vec3 side = normalize(abs(along.z) < 0.9 ? cross(along, vec3(0.0, 0.0, 1.0)) : cross(along, vec3(1.0, 0.0, 0.0)));
  normal = side * shape.x + cross(along, side) * shape.y;
  vec3 eye = mix(a, b, 0.5 * shape.z) + normal * radius;
  tint = colour; z = eye.z;
  // bonds that broke are not drawn
  gl_Position = far > 3.2 ? vec4(2.0, 2.0, 2.0, 1.0) : projected(eye);
}`, `${SHADE}
in vec3 tint; in vec3 normal; in float z;
void main() { shade(tint, normalize(normal), z, 0.12); }`],
    line: [`${COMMON}
in float index; in vec3 colour; out vec3 tint; out float z;
void main() { vec3 eye = turn * place(int(index)); tint = colour; z = eye.z; gl_Position = projected(eye); }`, `${SHADE}
in vec3 tint; in float z;
void main() {
  float alpha = mix(0.2, 0.9, smoothstep(-haze, 0.35 * haze, z));
  result = vec4(tint * alpha, alpha);
}`],
    mesh: [`${COMMON}
in vec3 point; in vec3 facing; in vec3 colour; out vec3 tint; out vec3 normal; out float z;
void main() {
  vec3 eye = turn * point;
  tint = colour; normal = turn * facing; z = eye.z; gl_Position = projected(eye);
}`, `${SHADE}
in vec3 tint; in vec3 normal; in float z;
void main() { vec3 n = normalize(normal); shade(tint, n.z < 0.0 ? -n : n, z, 0.15); }`],
    frame: [`${COMMON}
in vec3 point; in vec3 colour; out vec3 tint;
void main() { tint = colour; gl_Position = projected(turn * point); }`, `${SHADE}
in vec3 tint;
void main() { result = vec4(tint * 0.8, 0.8); }`],
  };

  class Scene {
    constructor(canvas) {
      const gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
      if (!gl) throw new Error("no WebGL 2");
      this.canvas = canvas;
      this.gl = gl;
      this.programs = {};
      for (const [name, sources] of Object.entries(PROGRAMS)) this.programs[name] = this.compile(sources);
      this.drawn = {};
      this.places = gl.createTexture();
      gl.bindTexture(gl.TEXTURE_2D, this.places);
      for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.NEAREST);
      gl.enable(gl.DEPTH_TEST);
    }

    compile(sources) {
      const gl = this.gl, program = gl.createProgram();
      sources.forEach((source, k) => {
        const shader = gl.createShader(k ? gl.FRAGMENT_SHADER : gl.VERTEX_SHADER);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader) || "shader");
        gl.attachShader(program, shader);
      });
      gl.linkProgram(program);
      if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "program");
      return program;
    }

    // positions [n, 3] of the frame to be drawn
    move(positions) {
      const gl = this.gl, n = positions.length / 3, rows = Math.max(1, Math.ceil(n / WIDTH));
      if (!this.texels || this.texels.length !== 4 * WIDTH * rows) this.texels = new Float32Array(4 * WIDTH * rows);
      for (let k = 0; k < n; k++) for (let a = 0; a < 3; a++) this.texels[4 * k + a] = positions[3 * k + a];
      gl.bindTexture(gl.TEXTURE_2D, this.places);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, WIDTH, rows, 0, gl.RGBA, gl.FLOAT, this.texels);
    }

    // one kind of thing: attributes {name: [size, values, once per instance?]}
    put(key, kind, mode, attributes, count, instances = 0) {
      const gl = this.gl, program = this.programs[kind];
      this.remove(key);
      if (!count || (instances === 0 && attributes.index && !attributes.index[1].length)) return;
      const vao = gl.createVertexArray(), buffers = [];
      gl.bindVertexArray(vao);
      for (const [name, [size, values, per]] of Object.entries(attributes)) {
        const at = gl.getAttribLocation(program, name);
        if (at < 0) continue;
        const buffer = gl.createBuffer();
        buffers.push(buffer);
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
        gl.enableVertexAttribArray(at);
        gl.vertexAttribPointer(at, size, gl.FLOAT, false, 0, 0);
        gl.vertexAttribDivisor(at, per ? 1 : 0);
      }
      gl.bindVertexArray(null);
      this.drawn[key] = { kind, mode, vao, buffers, count, instances };
    }

    remove(key) {
      const old = this.drawn[key];
      if (!old) return;
      for (const buffer of old.buffers) this.gl.deleteBuffer(buffer);
      this.gl.deleteVertexArray(old.vao);
      delete this.drawn[key];
    }

    spheres(key, indices, radii, colours) {
      const corners = new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]);
      this.put(key, "sphere", this.gl.TRIANGLE_STRIP, { corner: [2, corners], index: [1, indices, true],
        radius: [1, radii, true], colour: [3, colours, true] }, indices.length ? 4 : 0, indices.length);
    }

    // half a bond each: ends (from, to), drawn from the first as far as the middle
    sticks(key, ends, radii, colours) {
      const around = 14, shape = new Float32Array(6 * (around + 1));
      for (let k = 0; k <= around; k++) {
        const angle = (2 * Math.PI * k) / around;
        shape.set([Math.cos(angle), Math.sin(angle), 0, Math.cos(angle), Math.sin(angle), 1], 6 * k);
      }
      const n = radii.length;
      this.put(key, "stick", this.gl.TRIANGLE_STRIP, { shape: [3, shape], ends: [2, ends, true], radius: [1, radii, true],
        colour: [3, colours, true] }, n ? 2 * (around + 1) : 0, n);
    }

    lines(key, indices, colours) {
      this.put(key, "line", this.gl.LINES, { index: [1, indices], colour: [3, colours] }, indices.length);
    }

    points(key, kind, mode, point, facing, colour) {
      this.put(key, kind, mode, { point: [3, point], facing: [3, facing || point], colour: [3, colour] }, point.length / 3);
    }

    draw(view) {
      const gl = this.gl, { canvas } = this;
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.bindTexture(gl.TEXTURE_2D, this.places);
      for (const { kind, mode, vao, count, instances } of Object.values(this.drawn)) {
        const program = this.programs[kind], at = (name) => gl.getUniformLocation(program, name);
        gl.useProgram(program);
        gl.uniform1i(at("places"), 0);
        gl.uniformMatrix3fv(at("turn"), false, view.turn);
        gl.uniform2fv(at("scale"), view.scale);
        gl.uniform2fv(at("shift"), view.shift);
        gl.uniform1f(at("depth"), view.depth);
        gl.uniform1f(at("haze"), view.haze);
        gl.bindVertexArray(vao);
        if (instances) gl.drawArraysInstanced(mode, 0, count, instances);
        else gl.drawArrays(mode, 0, count);
      }
      gl.bindVertexArray(null);
    }
  }
  return { Scene };
})();
