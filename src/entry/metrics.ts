// Metrics of predictions and of generated texts.
export * from "../data/metrics";
export { e2eMetricsFiles, e2eScores } from "../data/metrics-e2e";
export { entitiesOf, entityScores } from "../data/metrics-entities";
export type { Entity, EntityScore, EntityScores } from "../data/metrics-entities";
export { answerF1, exactMatch, normaliseAnswer, squadScores } from "../data/metrics-squad";
export { bleu, cider, nist, rouge, rougeL } from "../data/metrics-text";
export type { Generated, Rouge } from "../data/metrics-text";
export { meteor, meteorOfTokens, meteorVariant } from "../data/meteor";
export { nltkTokens } from "../data/nltk-tokens";
export { porterStem } from "../data/porter";
export { readWordNet } from "../data/wordnet";
export type { WordNet } from "../data/wordnet";
export type { Numbers } from "../data/metrics";
