import type { LoadedModel } from "../../io/load-model";
import type { Model } from "../../model/model";

/**
 * The model that a run is planned for. It is the loaded model, except in the moment in which heads or neurons are cut out of
 * that one: the smaller model is planned first, so that a cut which does not fit into the budget is not begun.
 */
export interface PlannedModel extends Pick<LoadedModel, "fragileNorms"> {
  model: Model;
}
