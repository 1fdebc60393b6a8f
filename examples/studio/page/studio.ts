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
  /** A button that leads to what is stored, and can be deleted. */
  readonly storedButton = (): HTMLElement => button("Show what is stored", () => this.showStored());
  /** Opens the list of what is stored. */
  showStored: () => void = () => undefined;
  /** Shows a step. */
  go: (name: string) => void = () => undefined;
  readonly status = h("p", { role: "status", class: "status" });
  readonly faults = h("div", { role: "alert", class: "faults" });
  /** A stored run that the user may go on with. */
  readonly offer = h("div", { class: "offer", "aria-live": "polite" });
  /** Called whenever something was stored in this browser, or deleted. */
  readonly onStored: (() => void)[] = [];

  /**
   * Does something that the user asked for, and shows what went wrong. While it lasts, buttons that would disturb it are disabled.
   * @param remedies buttons beside the error.
   * @returns whether it was done.
   */
  async attempt(
    work: () => Promise<void>,
    remedies: (error: StudioError) => readonly HTMLElement[] = () => [],
  ): Promise<boolean> {
    if (this.isBusy) {
      this.#alert([h("p", {}, "Something is still under way: wait for it, or stop it.")]);
      return false;
    }
    this.isBusy = true;
    fill(this.faults);
    this.onChange();
    try {
      await work();
      fill(this.faults);
      return true;
    } catch (error) {
      if (!(error instanceof StudioError)) throw error;
      this.showFault(error, remedies(error));
      return false;
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
    this.#alert([h("p", { class: "fact" }, fault.fact), h("p", {}, fault.remedy)], remedies);
  }

  #alert(text: readonly HTMLElement[], remedies: readonly HTMLElement[] = []): void {
    const close = button("Close", () => fill(this.faults));
    fill(this.faults, ...text, h("p", { class: "buttons" }, ...remedies, close));
  }

  /** To be called whenever something was stored in this browser, or deleted. */
  storageChanged(): void {
    for (const draw of this.onStored) draw();
  }

  say(text: string): void {
    this.status.textContent = text;
  }

  #receive(event: StudioEvent): void {
    if (event.type === "progress") this.say(event.text);
    for (const listener of this.listeners) listener(event);
  }
}
