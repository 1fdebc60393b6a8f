// Files and folders that the user drops or chooses.
import type { GivenFile } from "../protocol";
import { button, h } from "./dom";

/** Files of a list, with their paths where a folder was chosen. */
const given = (files: FileList): GivenFile[] =>
  [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));

/** Files that were dropped, those of folders included. */
async function dropped({ items }: DataTransfer): Promise<GivenFile[]> {
  // All entries are taken before anything is awaited: a drop's items are gone afterwards.
  const found = [...items].map(async (item) => {
    const [entry, file] = [item.webkitGetAsEntry(), item.getAsFile()];
    return entry ? filesOf(entry, "") : file ? [{ path: file.name, file }] : [];
  });
  return (await Promise.all(found)).flat();
}

async function filesOf(entry: FileSystemEntry, above: string): Promise<GivenFile[]> {
  const path = above + entry.name;
  if (entry.isFile) {
    // `isFile` says which of the two entries it is.
    const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
    return [{ path, file }];
  }
  // An entry that is not a file is a directory.
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const all: FileSystemEntry[] = [];
  // A reader gives at most a hundred entries at a time.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    all.push(...some);
  }
  return (await Promise.all(all.map((each) => filesOf(each, `${path}/`)))).flat();
}

/** A place to drop files on, with buttons that open the browser's own dialogs. */
export function dropZone(
  text: string,
  onFiles: (files: readonly GivenFile[]) => void,
  { files, folder }: { readonly files: string | undefined; readonly folder: string | undefined },
): HTMLElement {
  const take = (input: HTMLInputElement): void => {
    if (input.files && input.files.length > 0) onFiles(given(input.files));
    // The same files may be chosen again after they were corrected.
    input.value = "";
  };
  const input = (label: string, properties: Readonly<Record<string, string | boolean>>) => {
    const element = h("input", { type: "file", "aria-label": label, hidden: true, tabindex: "-1", ...properties });
    element.addEventListener("change", () => take(element));
    return [element, button(label, () => element.click())];
  };
  const zone = h(
    "div",
    { class: "drop" },
    h("p", {}, text),
    h(
      "p",
      { class: "buttons" },
      ...(files === undefined ? [] : input(files, { multiple: true, "data-kind": "files" })),
      ...(folder === undefined ? [] : input(folder, { webkitdirectory: true, "data-kind": "folder" })),
    ),
  );
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer) void dropped(event.dataTransfer).then(onFiles);
  });
  return zone;
}

/** Offers a file as a download. */
export function download(file: File): void {
  const url = URL.createObjectURL(file);
  h("a", { href: url, download: file.name }).click();
  // The click starts the download, which may read the file for a while.
  setTimeout(() => URL.revokeObjectURL(url), 600_000);
}
