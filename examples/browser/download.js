// Offers files as downloads: what a page can do with an adapter that saveAdapter() wrote into memoryDirectory().

/** @param {import("safetape").Directory} directory */
export async function downloadFiles(directory) {
  for (const file of await directory.list()) {
    const url = URL.createObjectURL(new Blob([await directory.read(file)]));
    const link = document.createElement("a");
    link.href = url;
    link.download = file;
    link.click();
    // The download has begun once the click is done, and reads the blob from here on.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}
