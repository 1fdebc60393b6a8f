// Offers files as downloads, for example an adapter that saveAdapter() wrote into a memoryDirectory().

/** @param {import("safetape").Directory} directory */
export async function downloadFiles(directory) {
  for (const file of await directory.list()) {
    const url = URL.createObjectURL(new Blob([await directory.read(file)]));
    const link = document.createElement("a");
    link.href = url;
    link.download = file;
    link.click();
    // The click starts the download, which may read the blob for a while.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}
