// Lint rules of this project, as a plugin of oxlint.

/** A cast switches the compiler off: a comment must say what the compiler cannot know. `as const` only narrows. */
const explainedCasts = {
  meta: {
    type: "suggestion",
    schema: [],
    messages: { unexplained: "Say in a comment why the compiler cannot know this type, or remove the cast." },
  },
  create(context) {
    const { sourceCode } = context;
    const comments = sourceCode.getAllComments();
    const isFirstOnLine = ({ loc: { start } }) => sourceCode.lines[start.line - 1].slice(0, start.column).trim() === "";
    const linesBelow = new Set(comments.filter(isFirstOnLine).map(({ loc }) => loc.end.line + 1));
    const linesBeside = new Set(comments.filter((comment) => !isFirstOnLine(comment)).map(({ loc }) => loc.start.line));
    return {
      TSAsExpression(node) {
        const { typeAnnotation: type, parent } = node;
        // Of `a as unknown as B` the outer cast alone is reported.
        if (parent.type === "TSAsExpression" || sourceCode.getText(type) === "const") return;
        const isStatement = (ancestor) => /(Statement|Declaration|Definition)$/.test(ancestor.type);
        const starts = [node, type, sourceCode.getAncestors(node).findLast(isStatement)].map(
          ({ loc }) => loc.start.line,
        );
        if (starts.some((line) => linesBelow.has(line)) || linesBeside.has(node.loc.end.line)) return;
        context.report({ node, messageId: "unexplained" });
      },
    };
  },
};

/** An object literal that is spread into another escapes the check for unknown keys. */
const noSpreadLiterals = {
  meta: {
    type: "problem",
    schema: [],
    messages: {
      spread: "Write the keys out: an object literal spread into another is not checked for unknown keys.",
    },
  },
  create(context) {
    return {
      SpreadElement(node) {
        if (node.parent.type !== "ObjectExpression" || node.argument.type !== "ObjectExpression") return;
        context.report({ node, messageId: "spread" });
      },
    };
  },
};

export default {
  meta: { name: "safetape" },
  rules: { "explained-casts": explainedCasts, "no-spread-literals": noSpreadLiterals },
};
