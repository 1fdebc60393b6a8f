import { ConfigError } from "../base/errors";

/**
 * The token with which an encoder-decoder's decoder starts.
 * @param absent the family's, where config.json names none.
 * @throws ConfigError where the vocabulary has no such token: its row of the embeddings would be another's.
 */
export function startTokenOf(
  {
    decoder_start_token_id: named,
    vocab_size,
  }: { decoder_start_token_id?: number | null | undefined; vocab_size: number },
  absent: number,
): number {
  const id = named ?? absent;
  if (id < vocab_size) return id;
  throw new ConfigError(
    `config.json: the decoder starts with token ${id} (decoder_start_token_id), but vocab_size is ${vocab_size}.`,
    "Correct decoder_start_token_id, or take the config.json that was saved with the weights.",
  );
}
