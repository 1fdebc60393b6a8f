/** The part of jStat, which has no types, that is used here. */
declare module "jstat" {
  interface Distribution {
    cdf(x: number, freedom: number): number;
    inv(p: number, freedom: number): number;
  }
  const library: { readonly jStat: { readonly studentt: Distribution } };
  export default library;
}
