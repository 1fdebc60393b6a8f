import eslint from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";

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

export default defineConfig(
  globalIgnores(["dist/", "site/", "bench/results/"]),
  eslint.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { project: ["tsconfig.json"], tsconfigRootDir: import.meta.dirname } },
    plugins: { safetape: { rules: { "explained-casts": explainedCasts } } },
    rules: {
      // Numeric code indexes arrays in loops whose bounds are known; `!` says so without a branch.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/no-unnecessary-condition": [
        "error",
        { allowConstantLoopConditions: "only-allowed-literals" },
      ],
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", ignoreRestSiblings: true }],
      // Spreading a string is how to get its code points.
      "@typescript-eslint/no-misused-spread": ["error", { allow: ["string"] }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      // An object literal that is spread into another escapes the check for unknown keys.
      "no-restricted-syntax": [
        "error",
        {
          selector: "ObjectExpression > SpreadElement > ObjectExpression",
          message: "Write the keys out: an object literal spread into another is not checked for unknown keys.",
        },
      ],
      eqeqeq: "error",
      "no-console": "error",
      "prefer-const": "error",
    },
  },
  {
    // Every cast says in a comment why the compiler cannot know.
    files: ["**/*.ts"],
    rules: { "safetape/explained-casts": "error" },
  },
  {
    // Programs talk to people.
    files: ["scripts/**", "examples/**", "bench/**"],
    rules: { "no-console": "off" },
  },
  {
    // Plain JavaScript; where a file begins with @ts-check, the compiler checks its types.
    files: ["**/*.mjs", "**/*.js"],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: {
      globals: {
        Buffer: "readonly",
        URL: "readonly",
        TextDecoder: "readonly",
        TextEncoder: "readonly",
        console: "readonly",
        performance: "readonly",
        process: "readonly",
        setTimeout: "readonly",
        clearTimeout: "readonly",
      },
    },
  },
  {
    // Runs in a page.
    files: ["examples/browser/**"],
    languageOptions: {
      globals: {
        AbortController: "readonly",
        Blob: "readonly",
        document: "readonly",
        location: "readonly",
        Option: "readonly",
        URLSearchParams: "readonly",
      },
    },
  },
);
