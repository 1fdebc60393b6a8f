// What the page knows: the facts of each step, and who draws them.
import type { DataFacts, ModelFacts, PlanFacts, PlanForm, RunFacts, StudioEvent } from "../protocol";
import { Client, StudioError } from "./client";
import { button, fill, h } from "./dom";

/** A step of the way. */
export interface Step {
  readonly name: string;
  readonly title: string;
  readonly element: HTMLElement;
  /** Whether what it needs is there. */
  isOpen(studio: Studio): boolean;
  /** Draws what has changed. */
  update?(studio: Studio): void;
  /** Called whenever it comes into view. */
  show?(studio: Studio): void;
}

export class Studio {
  readonly client = new Client((event) => this.#receive(event));
  model: ModelFacts | undefined;
  data: DataFacts | undefined;
  form: PlanForm | undefined;
  plan: PlanFacts | undefined;
  run: RunFacts | undefined;
  /** Whether the run's adapter is among the user's downloads. */
  isTaken = false;
  /** Whether the worker is at something long, during which other steps cannot change anything. */
  isBusy = false;
  readonly listeners: ((event: StudioEvent) => void)[] = [];
  /** Called whenever facts have changed. */
  onChange: () => void = () => undefined;
  /** Shows a step. */
  go: (name: string) => void = () => undefined;
  readonly status = h("p", { role: "status", class: "status" });
  readonly faults = h("div", { role: "alert", class: "faults" });

  /**
   * Does something that the user asked for, and shows what went wrong. While it lasts, buttons that would disturb it are disabled.
   * @param remedies buttons beside the error.
   */
  async attempt(
    work: () => Promise<void>,
    remedies: (error: StudioError) => readonly HTMLElement[] = () => [],
  ): Promise<void> {
    if (this.isBusy) return;
    this.isBusy = true;
    fill(this.faults);
    this.onChange();
    try {
      await work();
    } catch (error) {
      if (!(error instanceof StudioError)) throw error;
      this.showFault(error, remedies(error));
    } finally {
      this.isBusy = false;
      this.onChange();
    }
  }

  /** Whether something may take the place of the run, which a user who has not taken its adapter away is asked. */
  mayReplaceRun(): boolean {
    return (
      !this.run || this.isTaken || confirm("The trained adapter was not taken away, and this takes its place. Go on?")
    );
  }

  showFault({ fault }: StudioError, remedies: readonly HTMLElement[] = []): void {
    this.say("");
    fill(
      this.faults,
      h("p", { class: "fact" }, fault.fact),
      h("p", {}, fault.remedy),
      h(
        "p",
        { class: "buttons" },
        ...remedies,
        button("Close", () => fill(this.faults)),
      ),
    );
  }

  say(text: string): void {
    this.status.textContent = text;
  }

  #receive(event: StudioEvent): void {
    if (event.type === "progress") this.say(event.text);
    for (const listener of this.listeners) listener(event);
  }
}
