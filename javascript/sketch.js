/* Gradio 3's sketch gives its canvases the picture's size once, some milliseconds after the picture has come. On a busy
   page it may do so before it is mounted, and never again: they stay without a size, and a stroke goes to another
   place than the mouse, or nowhere. It measures anew when its block and the picture in it have another height.

   Without this file such a mask has to be taken away and given once more. */
(function() {
    "use strict";

    const SETTLED = 300; // milliseconds after the picture's coming, when the canvases have their size, or never will
    const MEASURED = 100; // milliseconds after which the sketch has noted the height that it has measured
    const TRIES = 20;
    const mending = new WeakSet();

    const heights = (block) => [...block.querySelectorAll("canvas")].map((canvas) => canvas.style.height);
    const wait = (time) => new Promise((then) => setTimeout(then, time));

    async function mend(block) {
        const picture = block.querySelector("img");
        if (!picture || !block.offsetHeight || !heights(block).includes("") || mending.has(block)) return;
        mending.add(block);
        const height = block.style.height, larger = `${block.offsetHeight + 1}px`;
        for (let tries = 1; tries <= TRIES; tries++) {
            block.style.height = tries % 2 ? larger : height;
            picture.dispatchEvent(new Event("load")); // at which it notes the height
            await wait(MEASURED);
            const now = `${picture.getBoundingClientRect().height}px`;
            if (tries % 2 === 0 && heights(block).every((one) => one === now)) break;
        }
        mending.delete(block);
    }

    /* A load does not bubble, but it can be caught on its way down. */
    function loaded(event) {
        const block = event.target.closest?.("#script_img2img_ditail_mask, #script_txt2img_ditail_mask");
        if (block) setTimeout(() => mend(block), SETTLED);
    }

    onUiLoaded(() => gradioApp().addEventListener("load", loaded, true));
})();
