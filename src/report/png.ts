import { ConfigError } from "../base/errors";

type Render = (svg: string) => Uint8Array;

/**
 * What turns SVG into PNG at twice its size: `@resvg/resvg-js`, a native library that is installed only by who wants it.
 * @throws ConfigError when it is not installed.
 */
export async function pngRenderer(): Promise<Render> {
  const { Resvg } = await import("@resvg/resvg-js").catch((cause: unknown) => {
    throw new ConfigError(
      "Figures become PNG by the npm package `@resvg/resvg-js`, which cannot be loaded.",
      "Run `npm install @resvg/resvg-js`, or leave out --report-png: report.html holds the same figures.",
      { cause },
    );
  });
  const font = { loadSystemFonts: true, defaultFontFamily: "DejaVu Sans" };
  return (svg) => new Resvg(svg, { background: "white", fitTo: { mode: "zoom", value: 2 }, font }).render().asPng();
}
