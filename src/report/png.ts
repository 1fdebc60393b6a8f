import { ConfigError } from "../base/errors";

type Render = (svg: string) => Uint8Array;

/**
 * A function that renders SVG as PNG at twice its size. It needs the native library `@resvg/resvg-js`, an optional
 * dependency.
 * @throws ConfigError if the library is not installed.
 */
export async function pngRenderer(): Promise<Render> {
  const { Resvg } = await import("@resvg/resvg-js").catch((cause: unknown) => {
    throw new ConfigError(
      "The npm package `@resvg/resvg-js`, which renders figures as PNG, cannot be loaded.",
      "Run `npm install @resvg/resvg-js`, or do without PNG files: report.html contains the same figures.",
      { cause },
    );
  });
  const font = { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" };
  return (svg) => new Resvg(svg, { background: "white", fitTo: { mode: "zoom", value: 2 }, font }).render().asPng();
}
