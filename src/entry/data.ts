// What trainers learn from: directories, readers of data sets, tokenizers, samples, batches.
export { memoryDirectory } from "../io/directory";
export type { Directory, FileContent, NewFile } from "../io/directory";
export type { DirectoryLike, OpenOptions } from "../io/directory-like";
export { fetchDirectory } from "../io/fetch-directory";
export type { FetchDirectoryOptions, FetchProgress } from "../io/fetch-directory";

export { Batches } from "../data/batches";
export type { BatchOptions, Shuffle } from "../data/batches";
export { makeBatch } from "../data/batch";
export type { Batch, BatchShape, LabelKind } from "../data/batch";
export { ImageBatches, normalisePixels } from "../data/images";
export type { ImageBatchOptions, ImageSample, Normalisation } from "../data/images";
export { readPreprocessor } from "../data/preprocessor";
export type { Preprocessor } from "../data/preprocessor";
export { framedSamples, MaskedBatches, maskingOf, specialCount } from "../data/masked-batches";
export type { MaskingOptions, UnlabelledSample } from "../data/masked-batches";
export { groupByLength, packSamples } from "../data/packing";
export { blockSamples, encodeExamples } from "../data/sample";
export type { Sample, SampleOptions, Samples } from "../data/sample";
export { stratifiedSample } from "../data/stratified";
export { loadTokenizer } from "../data/tokenizer";
export type { Encoded, EncodeOptions, SpecialRole, Tokenizer } from "../data/tokenizer";

export { memoryPrefixStore } from "../train/step/prefix/store";
export type { PrefixStore } from "../train/options";
export { weightedTokens } from "../train/plans/weighted-tokens";
export type { WeightedTokenOptions } from "../train/plans/weighted-tokens";

export { AG_NEWS_CLASSES, readAgNews } from "../data/ag-news";
export type { AnswerSamples } from "../data/answers";
export { readCifar } from "../data/cifar";
export type { CifarOptions } from "../data/cifar";
export { e2ePrompts, e2eSamples, readE2e } from "../data/e2e";
export type { E2eExample } from "../data/e2e";
export { readGlue } from "../data/glue";
export type { GlueSplit } from "../data/glue";
export { isGlueTask } from "../data/glue-tasks";
export type { GlueTaskName } from "../data/glue-tasks";
export { FASHION_MNIST_CLASSES, readIdx } from "../data/idx";
export type { IdxOptions } from "../data/idx";
export { readImageFolder, readImages } from "../data/image-folder";
export type { ImageFile, ImageFolderOptions } from "../data/image-folder";
export { readImageList } from "../data/image-list";
export type { ImageListKind, ListedImage } from "../data/image-list";
export type { ChatMessage, ContentPart, Conversation, Turn } from "../data/chat";
export { loadChatTemplate } from "../data/chat-template";
export type { ChatTemplate, RenderOptions } from "../data/chat-template";
export { chatEndIds, chatPrompt, conversationSamples, promptIds, readConversations } from "../data/jsonl";
export type { ConversationOptions } from "../data/jsonl";
export { openTextSession, streamText } from "../generate/stream";
export type { StreamOptions, TextSession } from "../generate/stream";
export type { OnBadLine } from "../data/text-file";
export { readBlocks } from "../data/lines";
export type { BlockOptions } from "../data/lines";
export { answerPairs, pairSamples, readPairs } from "../data/pairs";
export type { TextPair } from "../data/pairs";
export { readSamsum, summaryConversations, summaryPrompt } from "../data/samsum";
export type { DialogueSummary } from "../data/samsum";
export { decodeSpans, readSquad, squadFeatures } from "../data/squad";
export type { SpanOptions, SpanScores, SquadExample, SquadFeature, SquadOptions } from "../data/squad";
export { readTagged, readTagNames, taggedSamples, tagNames } from "../data/tagged-words";
export type {
  TaggedFile,
  TaggedOptions,
  TaggedSampleOptions,
  TaggedSamples,
  TaggedSentence,
} from "../data/tagged-words";
export type { BatchState } from "../data/batch-state";
export type { Dataset, Example } from "../data/example";
export type { Span } from "../data/offsets";
