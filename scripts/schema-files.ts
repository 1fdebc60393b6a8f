import { toJsonSchema } from "@valibot/to-json-schema";
import { TRAIN_EVENT } from "../src/cli/view/events";
import { RUN_RECORD } from "../src/report/record";

/** The JSON Schemas of docs/, derived from the schemas that the code validates with. */
export function schemaFiles(): { readonly file: string; readonly text: string }[] {
  const schemas = {
    "docs/train-events.schema.json": { title: "A line of safetape train --json", schema: TRAIN_EVENT },
    "docs/run.schema.json": { title: "run.json of safetape train", schema: RUN_RECORD },
  };
  return Object.entries(schemas).map(([file, { title, schema }]) => {
    const options = { errorMode: "ignore", overrideAction: integers } as const;
    return { file, text: `${JSON.stringify({ title, ...toJsonSchema(schema, options) }, null, 2)}\n` };
  });
}

type Override = NonNullable<NonNullable<Parameters<typeof toJsonSchema>[1]>["overrideAction"]>;

/** JSON Schema has no safe integers, only integers. */
const integers: Override = ({ valibotAction, jsonSchema }) =>
  valibotAction.type === "safe_integer" ? { ...jsonSchema, type: "integer" } : undefined;
