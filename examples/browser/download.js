// Offers files as downloads, for example an adapter that saveAdapter() wrote into a memoryDirectory().

/** @param {string} name @param {BlobPart} content */
export function downloadFile(name, content) {
  const url = URL.createObjectURL(new Blob([content]));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  // The click starts the download, which may read the blob for a while.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** @param {import("safetape").Directory} directory */
export async function downloadFiles(directory) {
  for (const file of await directory.list()) downloadFile(file, await directory.read(file));
}
